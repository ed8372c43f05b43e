"""Everything that determines the weights of an embedded model: its size, its data and its schedule."""

from dataclasses import dataclass

from peft_studio.pretraining.tokenizer import VOCAB_SIZE


@dataclass(frozen=True)
class PretrainPlan:
    """Everything that determines the weights.

    Attributes:
        tokens: Training tokens in all; the learning rate reaches zero there.
        decay_share: Last part of the tokens: falling learning rate, long contexts, more records (``forms.py``).
        shard_documents: Small-world documents in a shard; checkpoints lie between shards.
        short: Tokens of context before the falling phase.
        long: Tokens of context in it.
        batch_tokens: Tokens in one update.
        library: Whether the standard library is read.
        model: Which embedded model is made; decides the objective.
    """

    tokens: int = 16_000_000
    seed: int = 0
    hidden: int = 192
    layers: int = 6
    heads: int = 6
    feed_forward: int = 512
    vocab: int = VOCAB_SIZE
    lr: float = 1e-2
    warmup_tokens: int = 400_000
    decay_share: float = 0.3
    shard_documents: int = 10_000
    short: int = 128
    long: int = 256
    batch_tokens: int = 4096
    library: bool = True
    held_out_documents: int = 1500
    model: str = "nano-lm"

    @property
    def decay_start(self) -> int:
        """Tokens after which the learning rate falls."""
        return round(self.tokens * (1 - self.decay_share))

    def rate(self, seen: int) -> float:
        """Learning rate after ``seen`` tokens."""
        left = (self.tokens - seen) / max(1, self.tokens - self.decay_start)
        return self.lr * min(1.0, (seen + self.batch_tokens) / self.warmup_tokens, max(0.0, left))

r"""The embedded models' tokenizer: byte-level BPE whose pieces do not depend on where a word stands.

Learning to copy a name is easy only if the name is cut the same way everywhere. A pre-tokenizer therefore makes every
capitalised word a unit of its own, with the space before it a separate token; lower-case words carry their leading
space; digits stand alone; punctuation never joins letters. All 256 bytes are in the vocabulary: any text round-trips.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EOS, PAD = "<eos>", "<pad>"
CAUSAL_SPECIALS = (EOS, PAD)
"""Special tokens of the decoder, in the order of their ids."""
TEXT_SPECIALS = ("<s>", PAD, "</s>", "<mask>")
"""Special tokens of encoder and encoder-decoder, as RoBERTa and BART order them."""
VOCAB_SIZE = 2048
MAX_LENGTH = 512

_PATTERN = "|".join(
    (
        r" ?\p{Ll}+",  # lower-case word with its space
        r"\p{Lu}\p{Ll}+",  # capitalised word without
        r"\p{Lu}+(?!\p{Ll})",  # abbreviation
        r"\p{L}",  # a letter of a script without case
        r"\p{N}",  # one digit
        r" ?[^\s\p{L}\p{N}]+",  # punctuation, symbols, emoji
        r"\n+",
        r"[ \t]+(?= )",  # indentation up to the last space
        r"\s",
    )
)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = VOCAB_SIZE, specials: tuple[str, ...] = CAUSAL_SPECIALS
) -> "Tokenizer":
    """Learns the merges.

    Args:
        texts: Training documents.
        vocab_size: Entries wanted, special tokens and 256 bytes included.
        specials: Special tokens; they get the first ids.

    Returns:
        A tokenizer; with ``TEXT_SPECIALS`` it puts ``<s>`` and ``</s>`` around a text unless told otherwise.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if specials == TEXT_SPECIALS:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return tokenizer


def save_tokenizer(tokenizer: "Tokenizer", folder: Path) -> None:
    """Writes ``tokenizer.json`` and ``tokenizer_config.json`` so that ``AutoTokenizer`` loads them."""
    from transformers import PreTrainedTokenizerFast

    names = {"bos_token": EOS, "eos_token": EOS, "padding_side": "left"}
    if tokenizer.token_to_id("<mask>") is not None:
        names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
                 "mask_token": "<mask>", "padding_side": "right"}  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, model_max_length=MAX_LENGTH, clean_up_tokenization_spaces=False,
        **names,
    ).save_pretrained(folder)  # fmt: skip

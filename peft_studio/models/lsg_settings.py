"""How an encoder reads long texts: the settings of LSG attention. Torch-free, so that configs can hold them."""

from dataclasses import dataclass
from typing import Literal, get_args

from peft_studio.errors import ConfigError, did_you_mean

Sparsity = Literal["norm", "pooling", "stride"]


@dataclass(frozen=True)
class LSGConfig:
    """What a token sees.

    Attributes:
        block_size: Tokens of a block ``b``; a token sees its own block and the two next to it.
        sparse_block_size: Sparse keys on either side, which stand for ``sparse_block_size * sparsity_factor`` tokens
            just outside the three blocks; 0 for none.
        sparsity_factor: One sparse key per this many tokens, ``f``.
        sparsity: How they are chosen: ``stride`` takes every ``f``-th token, another one for each head; ``norm`` the
            ``b / f`` tokens of each block whose keys are longest; ``pooling`` means over ``f`` neighbours.
        global_tokens: How many of the first tokens see, and are seen by, all.
    """

    block_size: int = 64
    sparse_block_size: int = 64
    sparsity_factor: int = 4
    sparsity: Sparsity = "stride"
    global_tokens: int = 1

    def __post_init__(self) -> None:
        """Raises ConfigError where blocks and sparse keys do not line up."""
        if self.sparsity not in get_args(Sparsity):
            allowed = did_you_mean(self.sparsity, get_args(Sparsity))
            raise ConfigError(f"There is no sparsity {self.sparsity!r}. {allowed}", "model.lsg_sparsity")
        self._check("sparsity_factor", 1, 1)
        self._check("block_size", self.sparsity_factor, self.sparsity_factor)
        self._check("sparse_block_size", 0, self.step)
        self._check("global_tokens", 0, 1)

    def _check(self, name: str, least: int, unit: int) -> None:
        value = getattr(self, name)
        if value < least or value % unit:
            raise ConfigError(
                f"model.lsg_{name} is {value}; allowed: multiples of {unit} from {least} on.", f"model.lsg_{name}"
            )

    @property
    def step(self) -> int:
        """Sparse keys that a block is reduced to."""
        return self.block_size // self.sparsity_factor

    @property
    def sparse_blocks(self) -> int:
        """Blocks on either side that are seen through sparse keys."""
        return self.sparse_block_size // self.step


@dataclass(frozen=True)
class LongText:
    """LSG attention for texts of some length.

    Attributes:
        length: Tokens of the longest text.
        settings: What a token sees.
    """

    length: int
    settings: LSGConfig = LSGConfig()

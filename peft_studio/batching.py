"""Which rows form the batch of each step: a pure function of row lengths and seed."""

import random
from collections.abc import Iterator, Sequence

MEGABATCH = 50  # batches that are sorted by length together: enough to group well, few enough to stay shuffled


class LengthGroupedBatches:
    """The batches of a whole run, as row numbers: a batch sampler for ``torch.utils.data.DataLoader``.

    Epochs follow each other without a gap: no row is dropped and every batch is full. Of the endless shuffled
    stream, ``MEGABATCH`` batches at a time are sorted by length, cut into batches and shuffled again.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._steps = steps
        self._seed = seed

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(self._seed)
        stream = self._stream(rng)
        left = self._steps
        while left:
            count = min(left, MEGABATCH)
            rows = [next(stream) for _ in range(count * self._batch_size)]
            rows.sort(key=lambda row: self._lengths[row])
            batches = [rows[start : start + self._batch_size] for start in range(0, len(rows), self._batch_size)]
            rng.shuffle(batches)
            yield from batches
            left -= count

    def _stream(self, rng: random.Random) -> Iterator[int]:
        order = list(range(len(self._lengths)))
        while True:
            rng.shuffle(order)
            yield from order

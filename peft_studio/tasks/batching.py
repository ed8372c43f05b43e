"""Which rows form the batch of each step: a pure function of row lengths and seed."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

MEGABATCH = 4
"""Batches that are sorted by length together. The more there are, the less is padding, and the less alike is a batch
to all rows: LoRA on nano-lm, 40 steps, three seeds, had validation losses of 0.551 with 1, 0.558 with 4 and 0.572 with
50, where 72, 90 and 99 % of the tokens were no padding; batches drawn by the stock Trainer gave 0.546."""
EARLIER = 50  # what it was for runs that did not write it down


@dataclass(eq=False)
class LengthGroupedBatches:
    """The batches of a whole run, as row numbers: a batch sampler for ``torch.utils.data.DataLoader``.

    Epochs follow each other without a gap: no row is dropped and every batch is full. Of the endless shuffled
    stream, ``megabatch`` batches at a time are sorted by length, cut into batches and shuffled again.

    Attributes:
        lengths: Of the rows.
        batch_size: Rows in a batch.
        steps: Batches in all.
        seed: Of the order.
        start: How many of them an earlier process has used up.
        cuts: Ends that this run once had, in batches, before it was made longer: the batches up to there stay.
        classes: Of the rows, in classification: each batch then holds about as many rows of each class as the data. By
            chance alone some hold far more of one, and their gradients, which mostly shift all answers alike, drown
            what tells the classes apart.
        megabatch: How many are sorted together.
    """

    lengths: Sequence[int]
    batch_size: int
    steps: int
    seed: int
    start: int = 0
    cuts: Sequence[int] = ()
    classes: Sequence[int] = ()
    megabatch: int = MEGABATCH

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        return islice(self._batches(), self.start, None)

    def _batches(self) -> Iterator[list[int]]:
        rng = random.Random(self.seed)
        stream = self._stream(rng)
        for count in self._megabatches():
            rows = [next(stream) for _ in range(count * self.batch_size)]
            rows = self._by_length(rows)
            batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
            rng.shuffle(batches)
            yield from batches

    def _by_length(self, rows: list[int]) -> list[int]:
        """Rows sorted by length, the classes evenly spread."""
        rows = sorted(rows, key=lambda row: self.lengths[row])
        if not self.classes:
            return rows
        counts = Counter(self.classes[row] for row in rows)
        seen: Counter[int] = Counter()
        placed: list[tuple[float, int]] = []
        for row in rows:
            label = self.classes[row]
            placed.append(((seen[label] + 0.5) / counts[label], row))
            seen[label] += 1
        return [row for _, row in sorted(placed, key=lambda pair: pair[0])]

    def _megabatches(self) -> Iterator[int]:
        """How many batches are sorted together, one number after the other."""
        done = 0
        for end in (*sorted(cut for cut in self.cuts if cut < self.steps), self.steps):
            while done < end:
                count = min(end - done, self.megabatch)
                yield count
                done += count

    def _stream(self, rng: random.Random) -> Iterator[int]:
        order = list(range(len(self.lengths)))
        while True:
            rng.shuffle(order)
            yield from order

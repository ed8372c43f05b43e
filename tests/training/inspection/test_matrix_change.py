"""What is told of a matrix equals what plain decompositions give."""

import math

import pytest
import torch
from torch import Tensor

from peft_studio.training.inspection import matrix_change
from peft_studio.training.inspection.matrix_change import decompose, describe_change, effective_rank


def changed(rows: int, columns: int, rank: int, scale: float = 0.05) -> tuple[Tensor, Tensor]:
    """A random matrix, and the same after a change of a rank."""
    generator = torch.Generator().manual_seed(rows + columns + rank)
    weight = torch.randn(rows, columns, generator=generator)
    parts = torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator)
    return weight, weight + scale * parts[0] @ parts[1]


@pytest.mark.parametrize(("rows", "columns", "rank"), [(24, 40, 3), (40, 24, 24), (200, 300, 5), (300, 180, 180)])
def test_equal_to_a_direct_computation(rows: int, columns: int, rank: int) -> None:
    """Small and large matrices, tall and wide, of low and full rank: each way of decomposing."""
    weight, after = changed(rows, columns, rank)
    _, other = changed(rows, columns, rank, scale=0.02)
    found = describe_change(weight, after, other)
    delta = (after.double() - weight.double()).numpy()
    left, values, right = torch.linalg.svd(torch.from_numpy(delta), full_matrices=False)
    assert found["change"] == pytest.approx(float(values.norm()))
    assert found["relative"] == pytest.approx(float(values.norm() / weight.double().norm()))
    assert found["rank"] == rank
    assert found["values"] == pytest.approx(values[: min(rank, 16)].tolist(), rel=1e-4)
    shares = values[:rank] / values[:rank].sum()
    assert found["effective_rank"] == pytest.approx(math.exp(-float((shares * shares.log()).sum())), rel=1e-4)
    r = min(rank, 64)
    projected = left[:, :r].T @ weight.double() @ right[:r].T
    told = found["amplification"]
    assert isinstance(told, dict) and told["directions"] == r
    assert told["projected"] == pytest.approx(float(projected.norm()), rel=1e-3)
    assert told["factor"] == pytest.approx(float(values[:r].norm() / projected.norm()), rel=1e-3)
    own = torch.linalg.svdvals(weight.double())
    assert told["own"] == pytest.approx(float(own[:r].norm()), rel=1e-4)
    base_left, merged_left = (torch.linalg.svd(one.double(), full_matrices=False)[0] for one in (weight, after))
    cosines = (merged_left[:, :10].T @ base_left).abs().amax(1)
    strange = found["intruders"]
    assert isinstance(strange, dict)
    assert strange["cosines"] == pytest.approx(cosines.tolist(), abs=2e-3)
    assert strange["count"] == int((cosines < 0.5).sum())


def test_overlap_is_of_the_subspaces() -> None:
    """A change overlaps wholly with itself, not at all at right angles, and by the formula in between."""
    eye = torch.eye(6, dtype=torch.float64)
    first, second = eye[:, :2] @ eye[:2], eye[:, 3:5] @ eye[3:5]
    mixed = eye[:, :2] @ torch.stack([eye[0], eye[3]])
    ours, theirs, between = decompose(first).first(2), decompose(second).first(2), decompose(mixed).first(2)
    for other, expected in ((ours, 1.0), (theirs, 0.0), (between, 0.5)):
        found = matrix_change.overlap(ours, other)
        assert found is not None and found["similarity"] == pytest.approx(expected, abs=1e-12)
        assert found["random"] == pytest.approx(2 / 6)
    assert matrix_change.overlap(ours, theirs.first(0)) is None


def test_effective_rank_counts_equal_directions() -> None:
    assert effective_rank(torch.tensor([2.0, 2.0, 2.0])) == pytest.approx(3)
    assert effective_rank(torch.tensor([5.0])) == pytest.approx(1)
    assert effective_rank(torch.tensor([])) == 0


def test_an_intruder_is_found() -> None:
    """A direction that mixes many of the base's, made strongest."""
    weight = torch.diag(torch.linspace(1, 2, 12))
    strange = torch.ones(12) / math.sqrt(12)
    found = describe_change(weight, weight + 30 * torch.outer(strange, strange))["intruders"]
    assert isinstance(found, dict) and found["count"] >= 1 and found["cosines"][0] < 0.5
    same = describe_change(weight, weight * 1.5)["intruders"]
    assert isinstance(same, dict) and same["count"] == 0

"""Colours of runs stay apart for colour-blind people, and from the card that they are drawn on, light and dark."""

import re
from itertools import combinations

import numpy as np
import pytest

from peft_studio.ui.shell import STATIC

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009,
# severity 1, on linear RGB.
SIMULATED = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
APART = 13.0  # in CIE L*a*b*, where a difference of 2.3 can just be noticed
CONTRAST = 3.0  # WCAG 2.2, 1.4.11: of graphics


def linear(colour: str) -> np.ndarray:
    """Linear RGB, from 0 to 1."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    values = np.array([int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    x, y, z = (np.cbrt(value) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_runs_are_told_apart(theme: str) -> None:
    text = (STATIC / "tokens.css").read_text()
    block = text.split(".dark {")[theme == "dark"]
    colours = re.findall(r"--ps-run-\d+: (#\w+);", block)
    (card,) = re.findall(r"--ps-card: (#\w+);", block)
    named = re.findall(r"--ps-run-\d+", (STATIC / "colours.js").read_text())
    assert named == [f"--ps-run-{number}" for number in range(len(colours))]
    assert min(contrast(colour, card) for colour in colours) >= CONTRAST
    for kind, matrix in SIMULATED.items():
        seen = [lab(matrix @ linear(colour)) for colour in colours]
        nearest = min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2))
        assert nearest >= APART, (kind, nearest)

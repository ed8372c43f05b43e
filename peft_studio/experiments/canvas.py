"""Drawings of lines, shapes and texts, as SVG or PNG; no library draws charts here, so that a page stands alone."""

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import ImageDraw

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

INK = "#1f2937"
FAINT = "#9ca3af"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#6b4c9a", "#4d4d4d")
"""Colours that colour-blind people can tell apart (Okabe and Ito 2008), the yellow one darker."""
DASHES = ((), (7, 4), (2, 3), (9, 3, 2, 3))
"""Lengths of dashes and gaps, which tell lines apart besides colours."""
SCALE = 2  # pixels of a PNG for each unit
FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif"


@dataclass(frozen=True)
class Style:
    """How something is drawn.

    Attributes:
        stroke: Colour of its line; none when empty.
        fill: Colour of its inside; none when empty.
        width: Of the line.
        dash: Lengths of dashes and gaps.
        opacity: Of the inside.
    """

    stroke: str = INK
    fill: str = ""
    width: float = 1.5
    dash: Sequence[float] = ()
    opacity: float = 1.0


def style_of(number: int) -> Style:
    """The line of one of several."""
    return Style(PALETTE[number % len(PALETTE)], dash=DASHES[number // 2 % len(DASHES)], width=2)


@dataclass
class Canvas:
    """A drawing.

    Attributes:
        width: In units, about pixels.
        height: Likewise.
        title: What it shows, for whoever does not see it.
    """

    width: int
    height: int
    title: str
    _lines: list[tuple[Sequence[Point], bool, Style]] = field(default_factory=list)
    _texts: list[tuple[Point, str, Anchor, int, str]] = field(default_factory=list)

    def line(self, points: Sequence[Point], style: Style) -> None:
        """Joins points."""
        if len(points) > 1:
            self._lines.append((points, False, style))

    def shape(self, points: Sequence[Point], style: Style) -> None:
        """A closed shape."""
        self._lines.append((points, True, style))

    def box(self, corner: Point, size: Point, style: Style) -> None:
        """A rectangle."""
        (x, y), (w, h) = corner, size
        self.shape([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], style)

    def mark(self, center: Point, number: int, style: Style, size: float = 5) -> None:
        """A square, diamond, triangle or cross-like shape, by number, so that points differ by more than colours."""
        x, y = center
        corners = (
            [(-1, -1), (1, -1), (1, 1), (-1, 1)],
            [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
            [(0, -1.3), (1.3, 1), (-1.3, 1)],
            [(0, 1.3), (1.3, -1), (-1.3, -1)],
        )[number % 4]
        self.shape([(x + size * dx, y + size * dy) for dx, dy in corners], style)

    def text(self, at: Point, words: str, anchor: Anchor = "start", size: int = 12, colour: str = INK) -> None:
        """One line of text."""
        self._texts.append((at, words, anchor, size, colour))

    def svg(self) -> str:
        """As SVG, which names no other file."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img" font-family="{FONT}" style="color:{INK}">'
            f"<title>{escape(self.title)}</title>"
        ]
        for points, closed, style in self._lines:
            told = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            dash = f' stroke-dasharray="{" ".join(map(str, style.dash))}"' if style.dash else ""
            parts.append(
                f'<{"polygon" if closed else "polyline"} points="{told}" stroke="{_colour(style.stroke)}" '
                f'stroke-width="{style.width}" fill="{_colour(style.fill if closed else "")}" '
                f'fill-opacity="{style.opacity}" stroke-linejoin="round"{dash}/>'
            )
        for (x, y), words, anchor, size, colour in self._texts:
            parts.append(
                f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
                f'fill="{_colour(colour)}">{escape(words)}</text>'
            )
        return "".join([*parts, "</svg>"])

    def png(self) -> bytes:
        """As PNG on white, twice as large."""
        from PIL import Image, ImageDraw, ImageFont

        image = Image.new("RGB", (self.width * SCALE, self.height * SCALE), "white")
        draw = ImageDraw.Draw(image, "RGBA")
        for points, closed, style in self._lines:
            scaled = [(x * SCALE, y * SCALE) for x, y in points]
            if closed and style.fill:
                draw.polygon(scaled, fill=(*_rgb(style.fill), round(255 * style.opacity)))
            if style.stroke:
                _draw_line(draw, [*scaled, *scaled[:1]] if closed else scaled, style)
        anchors = {"start": "ls", "middle": "ms", "end": "rs"}
        for (x, y), words, anchor, size, colour in self._texts:
            font = ImageFont.load_default(size * SCALE)
            plain = unicodedata.normalize("NFKC", words)  # the font has no raised digits
            draw.text((x * SCALE, y * SCALE), plain, fill=_rgb(colour), font=font, anchor=anchors[anchor])
        out = io.BytesIO()
        image.save(out, "PNG", optimize=True)
        return out.getvalue()


def _colour(colour: str) -> str:
    """A colour of SVG; what is drawn in ink takes the colour of the text around it."""
    return {"": "none", INK: "currentColor"}.get(colour, colour)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def _draw_line(draw: "ImageDraw.ImageDraw", points: Sequence[Point], style: Style) -> None:
    """A line with its dashes, which go on around corners."""
    width, colour = max(1, round(style.width * SCALE)), _rgb(style.stroke)
    if not style.dash:
        draw.line(list(points), fill=colour, width=width, joint="curve")
        return
    dashes = [length * SCALE for length in style.dash]
    number, left = 0, dashes[0]
    for (x0, y0), (x1, y1) in pairwise(points):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        done = 0.0
        while length - done > 1e-6:
            step = min(left, length - done)
            if number % 2 == 0:
                ends = [
                    (x0 + (x1 - x0) * part / length, y0 + (y1 - y0) * part / length) for part in (done, done + step)
                ]
                draw.line(ends, fill=colour, width=width)
            done, left = done + step, left - step
            if left <= 1e-6:
                number += 1
                left = dashes[number % len(dashes)]

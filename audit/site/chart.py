"""Charts, as SVG written on the server: they need no script, print, and take their colours from the style sheet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WIDTH = 760
LEFT = 98
"""Room for the names of rows, or the numbers of an axis: on a phone they are twice as large beside all else."""

RIGHT = 14
TICKS = 6
"""Marks of an axis of time, about."""

MINUTE_S = 60
DAY_S = 86_400

_STEPS_S = (1, 5, 15, 60, 300, 900, 3_600, 3 * 3_600, 6 * 3_600, 12 * 3_600, DAY_S, 2 * DAY_S, 7 * DAY_S, 14 * DAY_S, 30 * DAY_S, 91 * DAY_S, 365 * DAY_S)  # fmt: skip


@dataclass(frozen=True)
class Span:
    """A stretch of a band, with what it means: ``kind`` names its colour."""

    start: datetime
    end: datetime
    kind: str
    title: str


@dataclass(frozen=True)
class Mark:
    """A moment on a row of a timeline."""

    at: datetime
    row: str
    kind: str
    title: str


@dataclass(frozen=True)
class Point:
    """A point of a curve: ``share`` is from 0 to 1, ``counts`` whether it belongs to the curve."""

    at: datetime
    share: float
    counts: bool
    title: str


class _Scale:
    """Places on the axis of time between two moments."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self.start = start
        self.end = max(end, start + timedelta(seconds=1))

    def x(self, at: datetime) -> float:
        share = (at - self.start) / (self.end - self.start)
        return round(LEFT + min(1, max(0, share)) * (WIDTH - LEFT - RIGHT), 1)

    def ticks(self) -> Iterator[tuple[float, str]]:
        length_s = (self.end - self.start).total_seconds()
        step_s = next((step for step in _STEPS_S if length_s / step <= TICKS), _STEPS_S[-1] * 10)
        first = (int(self.start.timestamp()) // step_s + 1) * step_s
        for moment in range(first, int(self.end.timestamp()) + 1, step_s):
            at = datetime.fromtimestamp(moment, UTC)
            if step_s >= DAY_S or (at.hour, at.minute, at.second) == (0, 0, 0):
                yield self.x(at), f"{at:%d %b}"
            else:
                yield self.x(at), f"{at:%H:%M:%S}" if step_s < MINUTE_S else f"{at:%H:%M}"


def timeline(spans: Sequence[Span], marks: Sequence[Mark], start: datetime, end: datetime, title: str) -> Markup:
    """A band of states over time, and under it a row for each kind of mark that there is."""
    scale = _Scale(start, end)
    rows = list(dict.fromkeys(mark.row for mark in marks))
    band, row_height = 30, 26
    height = band + 14 + row_height * len(rows) + 28
    parts = [
        f'<rect class="span {span.kind}" x="{scale.x(span.start)}" y="4" width="{max(1.5, scale.x(span.end) - scale.x(span.start)):.1f}"'
        f' height="{band}"><title>{escape(span.title)}</title></rect>'
        for span in spans
    ]
    parts.append(_label("status", 4 + band / 2))
    for number, row in enumerate(rows):
        y = band + 14 + row_height * number + row_height / 2
        parts.append(_label(row, y))
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts += [
            f'<circle class="mark {mark.kind}" cx="{scale.x(mark.at)}" cy="{y}" r="4.5"><title>{escape(mark.title)}</title></circle>'
            for mark in marks
            if mark.row == row
        ]
    parts += _axis(scale, 4, height - 24)
    return _svg(parts, height, title, "across")


def curve(points: Sequence[Point], title: str) -> Markup:
    """Progress over time, in steps; what came late stands beside the curve."""
    if not points:
        return Markup("")
    first, last = points[0].at, points[-1].at
    scale = _Scale(first, last)
    top, bottom = 12, 172

    def y(share: float) -> float:
        return round(bottom - min(1, max(0, share)) * (bottom - top), 1)

    parts = [
        f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(share)}" y2="{y(share)}"/>{_label(f"{share:.0%}", y(share))}'
        for share in (0, 0.5, 1)
    ]
    steps = [point for point in points if point.counts]
    if steps:
        path = f"M{scale.x(steps[0].at)},{y(steps[0].share)}"
        path += "".join(f"H{scale.x(point.at)}V{y(point.share)}" for point in steps[1:])
        parts.append(
            f'<path class="curve-fill" d="{path}V{bottom}H{scale.x(steps[0].at)}Z"/><path class="curve" d="{path}"/>'
        )
    parts += [
        f'<circle class="point{"" if point.counts else " aside"}" cx="{scale.x(point.at)}" cy="{y(point.share)}" r="4.5">'
        f"<title>{escape(point.title)}</title></circle>"
        for point in points
    ]
    parts += _axis(scale, bottom, bottom + 6)
    return _svg(parts, bottom + 34, title, "across")


def columns(days: Sequence[tuple[str, int, int, str]], title: str) -> Markup:
    """A column for each day: its label, its number, how much of it stands out, and what it says."""
    most = max((count for _, count, _, _ in days), default=0)
    top, bottom = 12, 182
    ceiling = _round_up(most)
    parts = [
        f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>{_label(f"{number:,}", y)}'
        for number, y in ((0, bottom), (ceiling, top))
    ]
    pitch = (WIDTH - LEFT - RIGHT) / max(1, len(days))
    for n, (label, count, aside, said) in enumerate(days):
        x, width = LEFT + n * pitch + pitch * 0.12, pitch * 0.76
        tall = (bottom - top) * count / ceiling
        out = (bottom - top) * aside / ceiling
        parts.append(
            f"<g><title>{escape(said)}</title>"
            f'<rect class="hit" x="{LEFT + n * pitch:.1f}" y="{top}" width="{pitch:.1f}" height="{bottom - top}"/>'
            f'<rect class="column" x="{x:.1f}" y="{bottom - tall:.1f}" width="{width:.1f}" height="{tall - out:.1f}"/>'
            f'<rect class="column aside" x="{x:.1f}" y="{bottom - out:.1f}" width="{width:.1f}" height="{out:.1f}"/></g>'
        )
        if n % max(1, len(days) // TICKS) == 0:
            parts.append(f'<text class="tick" x="{x + width / 2:.1f}" y="{bottom + 24}">{escape(label)}</text>')
    return _svg(parts, bottom + 30, title)


def shares(parts: Iterable[tuple[str, int]], title: str) -> Markup:
    """One bar, divided by kind."""
    told = [(kind, count) for kind, count in parts if count]
    total = sum(count for _, count in told) or 1
    x = 0.0
    drawn = []
    for kind, count in told:
        width = WIDTH * count / total
        drawn.append(
            f'<rect class="span {escape(kind)}" x="{x:.1f}" y="0" width="{max(width - 1.5, 0.5):.1f}" height="22">'
            f"<title>{escape(kind)}: {count:,}</title></rect>"
        )
        x += width
    return _svg(drawn, 22, title, "flat")


def _axis(scale: _Scale, top: float, bottom: float) -> list[str]:
    return [
        f'<line class="rule" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/><text class="tick" x="{x}" y="{bottom + 20}">{escape(label)}</text>'
        for x, label in scale.ticks()
    ]


def _label(text: str, y: float) -> str:
    return f'<text class="name" x="{LEFT - 10}" y="{y + 4:.1f}">{escape(text)}</text>'


def _round_up(number: int) -> int:
    """A round number that is not below."""
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale >= max(1, number):
                return step * scale
        scale *= 10


def _svg(parts: Iterable[str], height: float, title: str, look: str = "") -> Markup:
    """The drawing. Its look is ``flat``, stretched to any size, or ``across``, as wide as the page."""
    # Every part is ours, or escaped where it was put in.
    return Markup(  # noqa: S704
        f'<svg class="{f"chart {look}".strip()}" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}"'
        f"{' preserveAspectRatio=' + chr(34) + 'none' + chr(34) if look == 'flat' else ''}>{''.join(parts)}</svg>"
    )

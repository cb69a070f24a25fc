"""Simulates a lane of kind `batch`, draws docs/img/now-and-later.svg and fills a table of docs/now-and-later.md.

``python -m tests.perf.gaps.simulated`` takes less than a minute; everything is seeded, so that it gives the same each
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from tests.perf.gaps.simulation import Run, Shift, shared_day
from tests.perf.report.document import replace_block
from tests.simulation import CPU, GPU, Device

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "now-and-later.md"
PICTURE = ROOT / "docs" / "img" / "now-and-later.svg"
BETWEEN = "<!-- gaps:begin (made by `python -m tests.perf.gaps.simulated`) -->", "<!-- gaps:end -->"

_LASTS_S: Final = {CPU.name: 400.0, GPU.name: 40.0}
_LOADS = (0.25, 0.5, 0.75, 0.9)
_SHOWN_S: Final = {CPU.name: 1.0, GPU.name: 0.2}
_FULL_ROWS: Final = {CPU.name: 8, GPU.name: 32}
"""As many rows fill the height of a line."""

_BEGIN_S = 5.0

_COLUMNS = (
    "device, load",
    "p50 / p99 alone, ms",
    "with bulk, ms",
    "a batch of the batch lane, ms",
    "busy alone",
    "busy with bulk",
    "bulk",
    "of what was idle",
)

_WIDTH, _LEFT, _RIGHT = 960, 150, 32
_INK, _SOFT, _GROUND, _IDLE = "#1f2933", "#5b6773", "#ffffff", "#eef1f4"
_NOW, _LATER = "#1f6fb2", "#e0a458"
_ALT: Final = "What one device runs: ordinary requests alone, and with a batch lane in the gaps"
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


@cache
def day(device: Device, load: float, has_bulk: bool) -> Shift:
    """Ordinary requests at a share of the capacity, alone or beside an endless bulk job."""
    return shared_day(device, load, _LASTS_S[device.name], has_bulk=has_bulk)


def table() -> str:
    """Return what both kinds of devices do, as Markdown."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for device, told in ((CPU, "CPU: 2 ms + 5 ms a row"), (GPU, "GPU: 8 ms + 0.1 ms a row")):
        lines += [f"| {told}, {load:.0%} | {_row(device, load)} |" for load in _LOADS]
    return "\n".join(lines)


def _row(device: Device, load: float) -> str:
    alone, beside = day(device, load, False), day(device, load, True)
    idle_per_s = device.capacity_per_s * (1 - alone.busy)
    own_s = [run.ended_s - run.begun_s for run in beside.runs if run.is_of_batch_lane]
    own = f"{sum(own_s) / len(own_s) * 1000:.0f}" if len(own_s) > 10 else "-"
    share = f"{beside.later_per_s / idle_per_s:.0%}" if idle_per_s > 0.01 * device.capacity_per_s else "it was not idle"
    times = [f"{one.quantile_s(0.5) * 1000:.0f} / {one.quantile_s(0.99) * 1000:.0f}" for one in (alone, beside)]
    return " | ".join((*times, own, f"{alone.busy:.0%}", f"{beside.busy:.0%}", f"{beside.later_per_s:,.0f}/s", share))


def draw() -> str:
    """Return the picture as SVG text: what one device runs, alone and beside a bulk job, on two kinds of devices."""
    parts: list[str] = []
    top = 64.0
    for device, told in (
        (CPU, "A network on a CPU: 2 ms a batch and 5 ms a row"),
        (GPU, "A network on a GPU: 8 ms a batch and 0.1 ms a row"),
    ):
        parts += _device(device, told, top)
        top += 190
    height = round(top - 10)
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    legend = [
        *_box(24, 22, _NOW, "ordinary requests"),
        *_box(190, 22, _LATER, "requests of a batch lane"),
        *_box(390, 22, _IDLE, "idle"),
        _label(470, 34, "Simulated: ordinary requests at random, half of the capacity. High: many rows.", 12, _SOFT),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{_ALT}">',
            f'<rect x="0" y="0" width="{_WIDTH}" height="{height}" rx="6" fill="{_GROUND}"/>',
            f"<style>text {{ font-family: {escape(_FONT)}; }}</style>",
            *legend,
            *parts,
            "</svg>",
            "",
        ]
    )


def _device(device: Device, told: str, top: float) -> Iterator[str]:
    shown_s = _SHOWN_S[device.name]
    yield _label(24, top + 12, told, 15, weight=600)
    for number, has_bulk in enumerate((False, True)):
        shift = day(device, 0.5, has_bulk)
        y = top + 30 + 56 * number
        yield _label(24, y + 18, "with a batch lane" if has_bulk else "alone", 12)
        yield _label(24, y + 34, f"busy {shift.busy:.0%}", 12, _SOFT)
        yield f'<rect x="{_LEFT}" y="{y:.0f}" width="{_WIDTH - _LEFT - _RIGHT}" height="40" fill="{_IDLE}"/>'
        yield from _runs(shift.runs, device, shown_s, y)
    y = top + 30 + 56 + 48
    for tick in range(6):
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * tick / 5
        yield f'<path d="M{x:.1f},{y:.0f}v5" stroke="{_SOFT}"/>'
        yield _label(x, y + 18, f"{shown_s * tick / 5 * 1000:.0f} ms", 11, _SOFT, "middle")


def _runs(runs: Sequence[Run], device: Device, shown_s: float, y: float) -> Iterator[str]:
    """Each batch is as wide as it takes and as high as it is full; what it takes along lies on top."""
    scale = (_WIDTH - _LEFT - _RIGHT) / shown_s
    for run in runs:
        begun_s, ended_s = run.begun_s - _BEGIN_S, run.ended_s - _BEGIN_S
        if ended_s <= 0 or begun_s >= shown_s:
            continue
        x, end = _LEFT + max(0.0, begun_s) * scale, _LEFT + min(shown_s, ended_s) * scale
        bottom = y + 40
        for names, colour in ((run.ordinary, _NOW), (run.later, _LATER)):
            high = 40 * min(1.0, len(names) / _FULL_ROWS[device.name])
            if names:
                high = max(high, 4.0)
                bottom -= high
                size = f'width="{max(0.6, end - x - 0.8):.1f}" height="{high:.1f}"'
                yield f'<rect x="{x:.1f}" y="{bottom:.1f}" {size} fill="{colour}"/>'


def _box(x: float, y: float, colour: str, text: str) -> Iterator[str]:
    yield f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colour}"/>'
    yield _label(x + 20, y + 12, text, 12)


def _label(
    x: float, y: float, text: str, size: int, colour: str = _INK, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def main() -> None:
    """Write both files."""
    PICTURE.write_text(draw(), encoding="utf-8")
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), table(), BETWEEN), encoding="utf-8")
    print(f"Wrote {PICTURE.relative_to(ROOT)} and the table of {PAGE.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()

"""[I/O] Draws a sweep of chats for docs/chat-load.md.

`python -m tests.perf.programs.chat_picture out/sweep.json docs/img/chat-goodput.svg`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from loadgen.reports.chat_figures import sweep_figures
from loadgen.reports.figure import Figure
from loadgen.reports.svg import draw
from loadgen.results import files
from loadgen.results.sweepfile import SweepFile

_WIDTH: Final = 900
_TOP: Final = 62
_COLOURS: Final = {"one": "#1f6fb2", "two": "#c2571a", "three": "#3c8a4e", "four": "#8a4fa3"}


def picture(figures: list[Figure]) -> str:
    """Return a document with the figures below one another, each with its title and what its lines are."""
    height = sum(figure.height + _TOP for figure in figures)
    style = "text { font-family: system-ui, sans-serif; font-size: 12px; fill: #5b6773; } .grid { stroke: #e3e7eb; } "
    style += ".axis { stroke: #5b6773; } .line { fill: none; stroke-width: 2; } "
    style += ".rule { stroke: #5b6773; stroke-dasharray: 5 4; } "
    style += "".join(
        f".line.{tone} {{ stroke: {colour}; }} .mark.{tone} {{ fill: {colour}; }} " for tone, colour in _COLOURS.items()
    )
    parts, at = [], 0
    for figure in figures:
        parts.append(f'<text x="16" y="{at + 28}" style="font-size: 16px; fill: #1f2933">{figure.title}</text>')
        x = 16.0
        for series in figure.series:
            parts.append(f'<path d="M{x:g},{at + 48}h18" class="line {series.tone}"/>')
            parts.append(f'<text x="{x + 24:g}" y="{at + 52}">{series.name}</text>')
            x += 50 + 6.6 * len(series.name)
        parts.append(draw(figure, _WIDTH).replace("<svg ", f'<svg y="{at + _TOP}" ', 1))
        at += figure.height + _TOP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="Chats against the rate"><rect width="{_WIDTH}" height="{height}" rx="6" fill="#fff"/>'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )


def main() -> None:
    """Draw."""
    source, target = map(Path, sys.argv[1:])
    target.write_text(picture(sweep_figures(files.read(source, SweepFile))), encoding="utf-8")


if __name__ == "__main__":
    main()

"""One self-contained HTML page: no script, nothing fetched, light and dark, narrow and wide. Pure but for its style."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

import msgspec

from loadgen.gate.verdict import Verdict, number
from loadgen.results.runfile import RunFile

from .figure import Figure
from .figures import mean_and_p95
from .svg import draw
from .token_text import tiles as token_tiles

_WIDE, _WHOLE, _NARROW = 560, 1150, 330
_WHOLE_WIDTH = ("sweep", "sweep-tokens", "sweep-goodput", "pairs", "models")
"""Figures that need all of the page's width."""
_CLASSES = {
    "pass": "pass",
    "wrong answers": "fail",
    "over budget": "fail",
    "regression": "fail",
    "invalid": "invalid",
}


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def page(title: str, subtitle: str, verdict: Verdict | None, run: RunFile | None, figures: list[Figure]) -> str:
    """Return the page.

    Args:
        subtitle: when and where it was measured, in a line.
    """
    parts = []
    if verdict is not None:
        parts.append(_verdict(verdict))
    if run is not None:
        parts.append(_tiles(run))
    parts.append(cards(figures))
    if verdict is not None:
        parts.append(_checks(verdict))
    if run is not None:
        parts.append(_details(run))
    return framed(title, subtitle, parts)


def cards(figures: Sequence[Figure]) -> str:
    """Return the figures, each in a frame of its own."""
    return '<div class="cards">' + "".join(_card(figure) for figure in figures) + "</div>"


def framed(title: str, subtitle: str, parts: Sequence[str]) -> str:
    """Return a page around parts that are HTML already."""
    head = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{escape(subtitle)}</p>']
    body = "\n".join([*head, *parts])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Whatever a service said stays text: the page may load and run nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{_style()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _verdict(verdict: Verdict) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in (*verdict.reasons, *verdict.warnings))
    notes = "".join(f'<div class="soft">{escape(note)}</div>' for note in verdict.notes)
    says = {
        "pass": "Pass: the measurement is valid, within its budgets, and no slower than its base.",
        "wrong answers": "Wrong answers: the candidate answers the same inputs otherwise than the base.",
        "over budget": "Over budget.",
        "regression": "Regression: slower than the base.",
        "invalid": "Invalid: this measurement proves nothing, so it is neither passed nor called slow.",
    }[verdict.status]
    if verdict.status == "pass" and not any(check.kind == "regression" for check in verdict.checks):
        says = "Pass: the measurement is valid and within its budgets. It was not compared with a base."
    listed = f"<ul>{reasons}</ul>" if reasons else ""
    return (
        f'<section class="verdict {_CLASSES[verdict.status]}"><h2>{says}</h2>'
        f'<div class="soft">exit code {verdict.exit_code}</div>{listed}{notes}</section>'
    )


def _tiles(run: RunFile) -> str:
    counts, found = run.counts, mean_and_p95(run)
    tiles = [("requests answered", f"{counts.ok:,} of {counts.scheduled:,}")]
    if found is not None:
        tiles += [("mean latency", number(found[0], " ms")), ("95th percentile", number(found[1], " ms"))]
    tiles += token_tiles(run.tokens)
    tiles.append(("sent", number(run.validity.achieved_rate_per_s, "/s")))
    tiles.append(("generator's lag, p99", number(run.validity.pacing_lag.p99_ms, " ms")))
    card = run.service.card or {}
    if card.get("precision"):
        tiles.append(("served", f"{card.get('precision')} on {card.get('device', 'unknown')}"))
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles
    )
    return f'<section class="tiles">{cells}</section>'


def _card(figure: Figure) -> str:
    whole = figure.key in _WHOLE_WIDTH
    wide = draw(figure, _WHOLE if whole else _WIDE).replace("<svg ", '<svg class="wide" ', 1)
    narrow = draw(figure, _NARROW).replace("<svg ", '<svg class="narrow" ', 1)
    names = [series for series in figure.series if len(figure.series) > 1]
    key = "".join(f'<span><i style="background:var(--{one.tone})"></i>{escape(one.name)}</span>' for one in names)
    return (
        f'<figure class="card{" all" if whole else ""}"><h2>{escape(figure.title)}</h2>'
        f"<figcaption>{escape(figure.caption)}</figcaption>{wide}{narrow}"
        f"{f'<div class=key>{key}</div>' if key else ''}</figure>"
    )


def _checks(verdict: Verdict) -> str:
    rows = []
    for check in verdict.checks:
        mark = ("ok", "ok") if check.passed else ("failed", "FAILED")
        kind, text = mark if verdict.is_judged(check) else ("open", "not judged")
        rows.append(
            f'<tr><td>{escape(check.name)}</td><td class="number">{escape(check.measured)}</td>'
            f'<td>{escape(check.required)}</td><td class="{kind}">{text}</td></tr>'
        )
    head = "<tr><th>judged</th><th>measured</th><th>required</th><th></th></tr>"
    return (
        f'<section class="card" style="margin-top:16px"><h2>What was judged</h2><div class="scroll"><table>{head}'
        f"{''.join(rows)}</table></div></section>"
    )


def _details(run: RunFile) -> str:
    shown = {
        "started_at": run.started_at,
        "configuration": msgspec.to_builtins(run.configuration),
        "machine": msgspec.to_builtins(run.machine),
        "commit": msgspec.to_builtins(run.commit),
        "version": run.service.version,
        "card": {name: value for name, value in (run.service.card or {}).items() if name != "labels"},
    }
    text = escape(json.dumps(shown, indent=2, ensure_ascii=False)[:20_000])
    inside = f'<div class="scroll"><pre>{text}</pre></div>'
    return f"<details><summary>Configuration, machine, service</summary>{inside}</details>"

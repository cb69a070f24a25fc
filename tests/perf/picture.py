"""Draws docs/img/bench-overview.svg by hand: throughput with and without batches, latency by connections. Pure."""

from __future__ import annotations

from html import escape
from typing import Final

from .figures import Results, spread
from .tables import BATCHED, MODEL_CONNECTIONS, UNBATCHED, batching_gain, decimal, milliseconds, percent

_WIDTH, _HEIGHT = 960, 360
_INK, _SOFT, _LINE, _PALE, _STRONG = "#1f2933", "#5b6773", "#d5dbe1", "#a9b7c6", "#1f6fb2"
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_MODELS: Final = (("imagenet", "imagenet, JPEG"), ("bench-mobilenet", "bench-mobilenet, raw"))


def draw(results: Results) -> str:
    """Return the picture as SVG text."""
    machine = results.machine
    head = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" font-family="{escape(_FONT)}"'
    quick = "; made with --quick, not to be quoted" if results.quick else ""
    told = f"{machine.cpus} cores, everything on them; median of short windows, {results.started_at[:10]}{quick}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {head} role="img" aria-label="Batching and latency">',
            _bar(0, 0, _WIDTH, _HEIGHT, "#ffffff"),
            *_batching(results, 40),
            f'<line x1="490" y1="36" x2="490" y2="{_HEIGHT - 48}" stroke="{_LINE}"/>',
            *_latency(results, 520),
            _label(40, _HEIGHT - 16, told, size=12, colour=_SOFT),
            "</svg>",
            "",
        ]
    )


def _batching(results: Results, left: int) -> list[str]:
    """Left panel: horizontal bars, each model scaled to its own larger bar, since the models differ in cost."""
    parts = [
        _label(left, 40, "Requests a second, batching off and on", size=16, weight=600),
        _label(left, 60, f"{MODEL_CONNECTIONS} connections; bars scaled per model", size=12, colour=_SOFT),
    ]
    for row, (model, name) in enumerate(_MODELS):
        top = 92 + row * 112
        rates = {
            most: spread((w.rate_per_s for w in results.of(model, MODEL_CONNECTIONS, most)), higher_is_better=True)
            for most in (UNBATCHED, BATCHED)
        }
        gain = batching_gain(results, model)
        parts.append(_label(left, top, name, weight=600))
        if gain is not None:
            parts.append(_label(left + 410, top, f"{gain:.1f} times", anchor="end", weight=600, colour=_STRONG))
        largest = max((found.median for found in rates.values() if found), default=1.0)
        for line, (most, found) in enumerate(rates.items()):
            if found is None:
                continue
            y, width = top + 12 + line * 36, 190 * found.median / largest
            busy = spread((w.busy_share for w in results.of(model, MODEL_CONNECTIONS, most)), higher_is_better=True)
            told = decimal(found.median) + ("" if busy is None else f"/s, busy {percent(busy.median)}")
            parts += [
                _label(left, y + 18, "off" if most == UNBATCHED else "up to 32", size=13, colour=_SOFT),
                _bar(left + 64, y, width, 26, _PALE if most == UNBATCHED else _STRONG),
                _label(left + 64 + width + 8, y + 18, told, size=13),
            ]
    return parts


def _latency(results: Results, left: int) -> list[str]:
    """Right panel: pairs of columns on one scale."""
    parts = [
        _label(left, 40, "Echo through REST, latency", size=16, weight=600),
        _label(left, 60, "64 bytes by connections; p50 and p99 of the middle window", size=12, colour=_SOFT),
    ]
    base, tall = 276, 168
    columns = []
    for connections in (1, 32, 128):
        windows = results.of("echo", connections)
        p50, p99 = (
            spread(values, higher_is_better=False)
            for values in ([w.p50_ms for w in windows], [w.p99_ms for w in windows])
        )
        columns.append((connections, windows, p50, p99))
    largest = max((found.median for _, _, *both in columns for found in both if found), default=1.0)
    parts.append(f'<line x1="{left}" y1="{base}" x2="{left + 400}" y2="{base}" stroke="{_SOFT}"/>')
    for column, (connections, windows, *both) in enumerate(columns):
        x = left + 20 + column * 134
        for bar, found in enumerate(both):
            if found is None:
                continue
            height, at = max(tall * found.median / largest, 1.0), x + bar * 54
            parts += [
                _bar(at, base - height, 40, height, _STRONG if bar else _PALE),
                _label(at + 20, base - height - 7, milliseconds(found.median).removesuffix(" ms"), 12, anchor="middle"),
            ]
        rate = spread((w.rate_per_s for w in windows), higher_is_better=True)
        parts.append(_label(x + 47, base + 20, str(connections), weight=600, anchor="middle"))
        if rate is not None:
            parts.append(_label(x + 47, base + 37, f"{rate.median:,.0f}/s", 12, anchor="middle", colour=_SOFT))
    for entry, (name, colour) in enumerate((("p50, ms", _PALE), ("p99, ms", _STRONG))):
        x = left + entry * 84
        parts += [_bar(x, 76, 11, 11, colour), _label(x + 17, 86, name, 12)]
    return parts


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" fill="{colour}"/>'


def _label(
    x: float, y: float, text: str, size: int = 14, *, colour: str = _INK, anchor: str = "start", weight: int = 400
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )

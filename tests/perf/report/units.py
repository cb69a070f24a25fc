"""How figures are written. Pure."""

from __future__ import annotations

from collections.abc import Callable

from tests.perf.report.figures import Unit


def seconds(value: float) -> str:
    """Seconds with one decimal."""
    return f"{value:.1f} s"


def milliseconds(value: float) -> str:
    """Milliseconds with about three figures."""
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def microseconds(value: float) -> str:
    """Whole microseconds."""
    return f"{value:.0f} µs"


def megabytes(value: float) -> str:
    """Millions of bytes; a decimal below 10, so that growth does not vanish."""
    return f"{value / 1e6:.1f} MB" if abs(value) < 10e6 else f"{value / 1e6:.0f} MB"


def whole(value: float) -> str:
    """A whole number with thousands separated."""
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """Per second: one decimal below 100."""
    return f"{value:.1f}/s" if value < 100 else f"{value:,.0f}/s"


def share(value: float) -> str:
    """A ratio with two decimals."""
    return f"{value:.2f}"


def times(value: float) -> str:
    """A multiple."""
    return f"{value:.2f} times"


def percent(value: float) -> str:
    """A share in whole percent."""
    return f"{value:.0%}"


SHOW: dict[Unit, Callable[[float], str]] = {
    "per_s": rate,
    "s": seconds,
    "ms": milliseconds,
    "us": microseconds,
    "bytes": megabytes,
    "ratio": share,
    "percent": percent,
    "times": times,
    "count": whole,
}

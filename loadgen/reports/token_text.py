"""What a workload's requests had, in words: for the terminal, Markdown and the page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loadgen.gate.verdict import number
from loadgen.results.runfile import Goodput, Summary, TokenFigures


def figures(part: Summary) -> str:
    """Write a summary on one line; figures that failures made infinite say so."""
    if not part.count:
        return "nothing measured"
    names = ("mean", "p50", "p95", "p99", "max")
    values = (part.mean_ms, part.p50_ms, part.p95_ms, part.p99_ms, part.max_ms)
    return "  ".join(f"{name} {milliseconds(value)}" for name, value in zip(names, values, strict=True))


def milliseconds(value: float | None) -> str:
    """Write a figure of a summary; one that is null is infinite."""
    return "infinite" if value is None else number(value, " ms")


def token_rows(tokens: TokenFigures | None) -> list[tuple[str, str]]:
    """Return a label and a text for each of the figures that there are."""
    if tokens is None:
        return []
    found = [
        (label, figures(part))
        for label, part in (("ttft", tokens.ttft), ("itl", tokens.itl), ("worst gap", tokens.worst_gap))
        if part is not None
    ]
    if tokens.goodput is not None:
        found.append(("goodput", f"{goodput(tokens.goodput)}, {objectives(tokens.goodput)}"))
    if tokens.ttft is None:
        found.append(("texts", f"{tokens.texts:,}, {number(tokens.texts_per_s, '/s')}"))
    for name, count, rate in (
        ("prompt tokens", tokens.prompt_tokens, tokens.prompt_tokens_per_s),
        ("output tokens", tokens.output_tokens, tokens.output_tokens_per_s),
    ):
        if name == "prompt tokens" or tokens.ttft is not None:
            found.append(
                (name, "the service does not count them" if count is None else f"{count:,}, {number(rate, '/s')}")
            )
    return found


def goodput(found: Goodput) -> str:
    """Write a goodput: `93.3% of the requests, 8.97/s`."""
    return f"{share(found)} of the requests, {number(found.rate_per_s, '/s')}"


def share(found: Goodput) -> str:
    """Write the share of good requests."""
    return "unknown" if found.share is None else f"{found.share:.1%}"


def objectives(found: Goodput) -> str:
    """Say what makes a request good."""
    ttft, itl = number(found.ttft_objective_ms, " ms"), number(found.itl_objective_ms, " ms")
    return f"TTFT within {ttft} and ITL within {itl}"


def tiles(tokens: TokenFigures | None) -> list[tuple[str, str]]:
    """Return the large figures of a page: a label and a text each."""
    if tokens is None:
        return []
    found = []
    if tokens.ttft is not None and tokens.ttft.count:
        found.append(("time to first token, p95", milliseconds(tokens.ttft.p95_ms)))
    if tokens.itl is not None and tokens.itl.count:
        found.append(("between tokens, p95", milliseconds(tokens.itl.p95_ms)))
    if tokens.goodput is not None:
        found.append(("goodput", f"{share(tokens.goodput)}, {number(tokens.goodput.rate_per_s, '/s')}"))
    else:
        found.append(("texts", number(tokens.texts_per_s, "/s")))
    rate = tokens.output_tokens_per_s if tokens.ttft is not None else tokens.prompt_tokens_per_s
    found.append(("output tokens" if tokens.ttft is not None else "tokens", number(rate, "/s")))
    return found


_CHAT_COLUMNS: Final = ("TTFT p95", "ITL p95", "goodput", "output tokens")
_TEXT_COLUMNS: Final = ("texts", "tokens")


def token_columns(points: Sequence[TokenFigures | None]) -> tuple[str, ...]:
    """Return the columns that a table with these figures has beside the latencies."""
    known = [tokens for tokens in points if tokens is not None]
    if not known:
        return ()
    return _CHAT_COLUMNS if any(tokens.goodput is not None for tokens in known) else _TEXT_COLUMNS


def token_cells(tokens: TokenFigures | None, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a row has in these columns."""
    if tokens is None:
        return tuple("" for _ in columns)
    if columns == _TEXT_COLUMNS:
        return number(tokens.texts_per_s, "/s"), number(tokens.prompt_tokens_per_s, "/s")
    ttft, itl = (None if part is None else part.p95_ms for part in (tokens.ttft, tokens.itl))
    good = "unknown" if tokens.goodput is None else share(tokens.goodput)
    return milliseconds(ttft), milliseconds(itl), good, number(tokens.output_tokens_per_s, "/s")


def token_line(tokens: TokenFigures | None) -> str:
    """Return what a line of a sweep says beside the latencies."""
    columns = token_columns([tokens])
    return "".join(f"  {name} {cell}" for name, cell in zip(columns, token_cells(tokens, columns), strict=True))

"""Where the time of a request went, as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from headrace.table import printable

WIDTH: Final = 40
MOST_TEXT: Final = 300
BARS: Final = ("█", "#")
"""What bars are made of, and what stands for it on a terminal without that."""

_CLOSED: Final = {
    "full": "it was full",
    "idle": "the device was free, and waiting for company did not pay",
    "window": "it had waited for company as long as that pays",
    "deadline": "a longer wait would have cost a deadline",
    "drain": "the consumer was stopping",
    "gap": "it was of batch lanes, and nothing else was ready",
    "urgent": "it was of batch lanes, with a request that may wait no longer",
    "lone": "it was taken over from another consumer, and ran alone",
}
_SPANS: Final = {
    "admission": "in the front end, until it was in the queue",
    "queue": "in the queue",
    "company": "waiting for company or for the device",
    "decode": "decoding",
    "run": "in the model",
    "commit": "encoding and storing the answer",
    "way_back": "to the queue, back, and in the front end again",
}


def lines(story: Any, bar: str = BARS[0]) -> Iterator[str]:
    """Yield the picture of one story, as the front end's document has it; what it lacks is left out."""
    if not isinstance(story, Mapping):
        return
    took, outcome = _number(story.get("total_ms")), _text(story, "outcome")
    in_all = "" if took is None else f" after {milliseconds(took)}"
    code = f" ({outcome})" if outcome and outcome != "ok" else ""
    model, lane, state = (_text(story, name) for name in ("model", "lane", "state"))
    yield f"{_text(story, 'id')} of {model}, lane {lane}: {state}{code}{in_all}"
    yield from _where(story)
    yield from bars(story.get("spans"), bar)
    for note in _list(story.get("notes")):
        yield f"  {printable(str(note)[:MOST_TEXT])}"


def _where(story: Mapping[str, Any]) -> Iterator[str]:
    at_ms = _number(story.get("at_ms"))
    if at_ms is not None:
        yield f"  came at      {moment(at_ms)}"
    for name, words in (("front_end", "front end"), ("worker", "worker"), ("trace_id", "trace")):
        if _text(story, name):
            yield f"  {words:<12} {_text(story, name)}"
    attempt = _number(story.get("attempt"))
    if attempt is not None and attempt > 1:
        yield f"  attempt      {attempt:.0f}"
    batch = story.get("batch")
    if isinstance(batch, Mapping):
        rows, reason = _number(batch.get("rows")) or 0, _text(batch, "reason")
        kind = ", of a batch lane" if batch.get("of_batch_lane") is True else ""
        yield f"  batch        {_text(batch, 'id')}: {rows:.0f} row{'' if rows == 1 else 's'}{kind}"
        yield f"  closed       {_CLOSED.get(reason, reason)}"
    first = _number(story.get("first_token_ms"))
    if first is not None:
        yield f"  first token  after {milliseconds(first)} of running"


def bars(spans: Any, bar: str = BARS[0]) -> Iterator[str]:
    """Yield a line for each span: its name, how long it took, a bar where and as long as it was, and what it is."""
    found = [
        (str(one.get("name", "")), _number(one.get("ms")) or 0.0) for one in _list(spans) if isinstance(one, Mapping)
    ]
    total = sum(ms for _, ms in found)
    at = 0.0
    for name, ms in found:
        begin = round(WIDTH * at / total) if total else 0
        at += ms
        end = round(WIDTH * at / total) if total else 0
        drawn = " " * min(begin, WIDTH - 1) + bar * max(1 if ms else 0, end - begin)
        line = f"  {printable(name[:16]):<10} {milliseconds(ms):>10}  {drawn[:WIDTH]:<{WIDTH}}  {_SPANS.get(name, '')}"
        yield line.rstrip()


def milliseconds(ms: float) -> str:
    """Return a duration with three digits or so."""
    if ms >= 10_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.2f} ms"


def moment(at_ms: float) -> str:
    """Return a time as people read it; empty for what is none."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
    except (OverflowError, ValueError, OSError):
        return ""


def _text(story: Mapping[str, Any], name: str) -> str:
    found = story.get(name)
    return printable(found[:MOST_TEXT]) if isinstance(found, str) else ""


def _number(value: Any) -> float | None:
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 else None
    )


def _list(value: Any) -> Sequence[Any]:
    return value[:100] if isinstance(value, list) else ()

"""Puts made blocks between their markers in the documents. Pure."""

from __future__ import annotations


def markers(name: str, verb: str) -> tuple[str, str]:
    """Return the two lines between which a block stands; the first says what makes it."""
    return f"<!-- {name}:begin (made by `{verb}`; edits here are lost) -->", f"<!-- {name}:end -->"


BENCH = markers("bench", "make bench")
PEERS = markers("bench-peers", "make bench-peers")
BATCHING = markers("bench-batching", "make bench-batching")


def replace_block(text: str, block: str, between: tuple[str, str] = BENCH) -> str:
    """Return `text` with everything between the two markers replaced by `block`.

    Raises:
        ValueError: a marker is missing, there twice, or the two stand in the wrong order.
    """
    begin, end = between
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"The document must hold {begin} and {end} once each.")
    before, _, rest = text.partition(begin)
    _, marker, after = rest.partition(end)
    if not marker:
        raise ValueError(f"{end} stands before {begin}.")
    return f"{before}{begin}\n\n{block.strip()}\n\n{end}{after}"

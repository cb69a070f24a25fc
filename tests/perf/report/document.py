"""Puts made blocks between their markers in the documents. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def markers(name: str, verb: str) -> tuple[str, str]:
    """Return the two lines between which a block stands; the first says what makes it."""
    return f"<!-- {name}:begin (made by `{verb}`; edits here are lost) -->", f"<!-- {name}:end -->"


BENCH = markers("bench", "make bench")
PEERS = markers("bench-peers", "make bench-peers")
RUNTIMES = markers("bench-runtimes", "make bench")
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


def replace_part(
    text: str, title: str, part: str, between: tuple[str, str] = RUNTIMES, order: Sequence[str] = ()
) -> str:
    """Return `text` with one part of a block replaced or added; the others stay.

    Parts begin with a heading `### TITLE`. What stands before the first one goes.

    Args:
        order: titles in the order in which they are to stand; others follow alphabetically.

    Raises:
        ValueError: as for :func:`replace_block`.
    """
    begin, end = between
    replace_block(text, "", between)  # refuses a document without the markers
    inside = text.partition(begin)[2].partition(end)[0]
    pieces = [piece.partition("\n") for piece in ("\n" + inside.strip()).split("\n### ")[1:]]
    found = {head.strip(): body.strip() for head, _, body in pieces}
    found[title] = part.strip()
    places = {head: number for number, head in enumerate(order)}
    heads = sorted(found, key=lambda head: (places.get(head, len(places)), head))
    return replace_block(text, "\n\n".join(f"### {head}\n\n{found[head]}" for head in heads), between)

"""Puts the block of figures between its markers in docs/benchmarks.md. Pure."""

from __future__ import annotations

BEGIN = "<!-- bench:begin (made by `make bench`; edits here are lost) -->"
END = "<!-- bench:end -->"


def replace_block(text: str, block: str) -> str:
    """Return `text` with everything between the two markers replaced by `block`.

    Raises:
        ValueError: a marker is missing, there twice, or the two stand in the wrong order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"The document must hold {BEGIN} and {END} once each.")
    before, _, rest = text.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise ValueError(f"{END} stands before {BEGIN}.")
    return f"{before}{BEGIN}\n\n{block.strip()}\n\n{END}{after}"

"""Stop strings, and holding back what may be the beginning of one. Pure."""

from __future__ import annotations


class StopMatcher:
    """Finds the first stop string in a text that comes piece by piece.

    Args:
        stops: texts of at least one character. Of several that end at the same place, the one that begins first ends
            the text.
    """

    __slots__ = ("_held", "_longest", "_stops")

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Take the next piece; return what is certain not to be part of a stop string, and whether one was found.

        How the text is cut into pieces does not change what comes out in total.
        """
        if not self._stops:
            return text, False
        text = self._held + text
        found = self._first(text)
        if found is not None:
            self._held = ""
            return text[:found], True
        keep = self._undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """Return what was held back, at the end of a text in which no stop string was found."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> int | None:
        """Return where the stop string begins that is complete first."""
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(ends)[1] if ends else None

    def _undecided(self, text: str) -> int:
        """Return how many characters at the end may be the beginning of a stop string."""
        for count in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[len(text) - count :]
            if any(stop.startswith(tail) for stop in self._stops):
                return count
        return 0

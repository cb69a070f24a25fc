"""Where commands and answers of Redis's protocol (RESP2) end in a stream of bytes, and what a command says."""

from __future__ import annotations


def end_of(data: bytes, at: int = 0) -> int | None:
    """Return where the command or answer that begins at ``at`` ends, None when it is not all there."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, after = data[at : at + 1], line_end + 2
    if kind == b"$":
        size = int(data[at + 1 : line_end])
        end = after if size < 0 else after + size + 2
        return end if end <= len(data) else None
    if kind == b"*":
        end_of_last: int | None = after
        for _ in range(max(0, int(data[at + 1 : line_end]))):
            if end_of_last is None:
                return None
            end_of_last = end_of(data, end_of_last)
        return end_of_last
    return after


def words(command: bytes) -> list[bytes]:
    """Return the arguments of a whole command, its name included."""
    found, at = [], command.index(b"\r\n") + 2
    while at < len(command):
        line_end = command.index(b"\r\n", at)
        size = int(command[at + 1 : line_end])
        found.append(command[line_end + 2 : line_end + 2 + size])
        at = line_end + 4 + size
    return found

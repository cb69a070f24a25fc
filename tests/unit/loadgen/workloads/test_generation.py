"""What one streamed chat says: when its tokens came, and how it ended."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from loadgen.load.texts.generation import Generation


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def part(content: str | None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    return event({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


ROLE = event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}], "usage": None})
USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}})
DONE = b"data: [DONE]\n\n"


def fed(*pieces: tuple[float, bytes]) -> Generation:
    generation = Generation()
    for at_s, piece in pieces:
        generation.feed(piece, at_s)
    return generation


def test_the_first_text_counts_and_not_the_role_or_a_ping() -> None:
    found = fed(
        (1.0, ROLE), (1.5, b": ping\n\n"), (2.0, part("a")), (2.25, part("b")), (3.0, part("c") + part(None, "length")),
        (3.5, USAGE + DONE),
    )  # fmt: skip
    assert found.end() == "complete"
    told = found.told
    assert (told.first_s, told.last_s, told.worst_gap_s) == (2.0, 3.0, 0.75)
    assert (told.prompt_tokens, told.output_tokens) == (7, 5)


def test_a_character_that_is_cut_in_two() -> None:
    whole = part("🙂") + part(None, "stop") + DONE
    raw = whole.replace(b"\\ud83d\\ude42", "🙂".encode())
    at = raw.index("🙂".encode()) + 2
    found = fed((1.0, raw[:at]), (2.0, raw[at:]))
    assert found.end() == "complete"
    assert found.told.first_s == 2.0  # an event counts when it is whole


def test_an_answer_without_a_text_has_its_end_as_its_first_token() -> None:
    found = fed((1.0, ROLE), (2.0, part(None, "stop")), (2.5, DONE))
    assert (found.end(), found.told.first_s, found.told.last_s) == ("complete", 2.0, 2.0)
    assert found.told.output_tokens is None


def test_thinking_aloud_is_text_too() -> None:
    found = fed((1.0, event({"choices": [{"delta": {"reasoning_content": "hm"}}]})), (2.0, part("a", "stop") + DONE))
    assert found.told.first_s == 1.0


@pytest.mark.parametrize(
    ("stream", "end", "code"),
    [
        (part("a"), "aborted", None),
        (b"", "aborted", None),
        (part("a") + event({"error": {"message": "m", "code": "crashed"}}), "aborted", "crashed"),
        (part("a") + event({"error": {"message": "m", "code": 500}}), "aborted", "500"),
        (
            part("a") + event({"error": {"message": "m", "code": None, "type": "server_error"}}),
            "aborted",
            "server_error",
        ),
        (part("a") + event({"error": "broke"}), "aborted", "error"),
        (part("a", "stop"), "complete", None),  # some servers send no [DONE]
        (part("a") + DONE, "malformed", None),
        (b"data: {half\n\n" + part("a", "stop") + DONE, "malformed", None),
        (b'data: "\xff\xfe"\n\n' + part("a", "stop") + DONE, "malformed", None),
        (event({"choices": [{"delta": {"content": 5}}]}) + part("a", "stop"), "malformed", None),
        (event({"choices": None}), "malformed", None),
        (part("a", "stop") + event({"usage": {"completion_tokens": -1}}), "malformed", None),
        (part("a", "stop") + event({"usage": {"completion_tokens": 10**30}}), "malformed", None),
    ],
)
def test_how_it_ends(stream: bytes, end: str, code: str | None) -> None:
    found = fed((1.0, stream))
    assert (found.end(), found.error) == (end, code)


def test_nothing_came() -> None:
    assert math.isnan(Generation().told.first_s)

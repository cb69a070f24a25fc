"""What reaches stderr: lines that name their request, one format per process, and no passwords."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.process.logs import LONGEST, JsonFormatter, TextFormatter, about, without_secrets
from shared.wire.trace_context import parts, sampled_trace_id, trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


def record(
    message: str, *arguments: object, error: Exception | None = None, extra: dict[str, str] | None = None
) -> logging.LogRecord:
    made = logging.LogRecord("headrace.http", logging.ERROR, __file__, 1, message, arguments, None)
    if error is not None:
        made.exc_info = (type(error), error, error.__traceback__)
    made.__dict__.update(extra or {})
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(made)
    assert "\n" not in text
    members: dict[str, Any] = json.loads(text)
    return members


def test_json_says_which_request_and_which_trace() -> None:
    members = as_json(record("A request for %s failed.", "echo", extra=about("r-1", TRACEPARENT)))
    assert members["message"] == "A request for echo failed."
    assert (members["level"], members["logger"]) == ("error", "headrace.http")
    assert (members["request_id"], members["trace_id"]) == ("r-1", TRACE)
    assert members["time"].endswith("+00:00")


def test_json_leaves_out_what_there_is_not() -> None:
    assert set(as_json(record("Serving."))) == {"time", "level", "logger", "process", "message"}
    assert "trace_id" not in as_json(record("Failed.", extra=about("r-1")))


def test_json_holds_the_traceback() -> None:
    assert as_json(record("Failed.", error=ValueError("no")))["exception"].endswith("ValueError: no")


def test_text_names_the_request_before_the_traceback_and_only_once() -> None:
    text = TextFormatter(one_line=False).format(
        record("Request r-1 failed.", error=ValueError("no"), extra=about("r-1", TRACEPARENT))
    )
    first, *traceback = text.splitlines()
    assert first.endswith(f"ERROR headrace.http: Request r-1 failed. [trace_id={TRACE}]")
    assert traceback == ["ValueError: no"]


def test_text_may_be_held_to_one_line() -> None:
    text = TextFormatter(one_line=True).format(record("Failed.", error=ValueError("no")))
    assert text.endswith("Failed.\\nValueError: no")


@pytest.mark.parametrize("formatter", [JsonFormatter().format, TextFormatter(one_line=True).format])
@pytest.mark.parametrize(
    "url",
    [
        "redis://:S3cret@host:6379/0",
        "rediss://user:S3cret@host",
        "redis://user:at@S3cret@host:1",
        "unix://user:S3cret@/run/redis.sock",
        "redis+sentinel://user:S3cret@host:1,host:2/service/0",
        "rediss+sentinel://host/service?ssl_ca_certs=x&sentinel_password=S3cret&y=z",
        "redis://host?password=S3cret",
        "rediss://host?ssl_password=S3cret&ssl_keyfile=me.key",
    ],
)
def test_passwords_are_never_written(formatter: Callable[[logging.LogRecord], str], url: str) -> None:
    written = formatter(record("Redis at %s: gone", url, error=ConnectionError(f"no answer from {url}")))
    assert "S3cret" not in written
    assert "***" in written


@given(st.text(alphabet=st.characters(exclude_characters="/@", exclude_categories=("Z", "C")), min_size=1))
def test_no_password_survives(password: str) -> None:
    assert without_secrets(f"x redis://u:{password}@host:1/0 y") == "x redis://***@host:1/0 y"


@pytest.mark.parametrize("text", ["mail a@b.c", "redis://host:6379/0 and a@b", "http://host/x@y"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def test_a_traceparent_has_three_parts() -> None:
    assert parts(TRACEPARENT) == (TRACE, SPAN, 1)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        TRACEPARENT + "\n",
    ],
)
def test_a_malformed_traceparent_names_no_trace(text: str | None) -> None:
    assert trace_id(text) is None
    assert about("r", text) == {"request_id": "r"}


@pytest.mark.parametrize(("flags", "found"), [("00", None), ("01", TRACE), ("02", None), ("03", TRACE)])
def test_a_trace_that_is_not_sampled_is_not_worth_showing(flags: str, found: str | None) -> None:
    assert sampled_trace_id(f"00-{TRACE}-{SPAN}-{flags}") == found
    assert sampled_trace_id(None) is sampled_trace_id("nonsense") is None


@pytest.mark.parametrize("one_line", [True, False])
def test_what_a_client_sent_cannot_speak_to_the_terminal_or_begin_a_line(one_line: bool) -> None:
    hostile = "/a\r\n2026-01-01 INFO headrace: all is well\x1b[2J\x9b2J\x00\x7f"
    text = TextFormatter(one_line=one_line).format(record("GET %s failed.", hostile, error=ValueError(hostile)))
    first = text.replace("\\n", "\n").split("\n")[0] if one_line else text.split("\n")[0]
    assert "GET /a\\x0d" in first
    assert not set(text) & set(map(chr, (*range(9), *range(11, 32), *range(127, 160))))
    assert ("\n" in text) is not one_line


@pytest.mark.parametrize("formatter", [TextFormatter(one_line=False), TextFormatter(one_line=True), JsonFormatter()])
def test_a_message_of_any_length_leaves_room_for_what_follows(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("begin " + "x" * 5_000_000 + " end")
    except ValueError as error:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "told %s done", (error,), (ValueError, error, None))
    text = formatter.format(record)
    assert len(text) < 3 * LONGEST
    assert "characters left out" in text
    assert all(word in text for word in ("told begin ", " end done"))

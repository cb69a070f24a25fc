"""A stream of events over a fake stream of frames: what is sent when, and what is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import openai
import pytest
from prometheus_client import CollectorRegistry

from producer_api.inference.openai.chat import ChatWriter
from producer_api.inference.openai.sampling import Writing
from producer_api.stream_metrics import StreamMetrics
from producer_api.streaming import events
from producer_api.streaming.events import PING, EventStream, Streaming
from shared.wire.frames import Frame
from shared.wire.generated import Choice, Generated, Usage
from shared.wire.messages import ModelTag, Reply, Timing
from shared.wire.outcomes import CRASHED, RequestError

WRITING = Writing("chatcmpl-a", "m", 7, None, includes_usage=False)


class Made:
    """A stream, and what became of it."""

    def __init__(self, after: int | None = None, sent: int = 0) -> None:
        writer = ChatWriter(Writing("chatcmpl-a", "m", 7, None, includes_usage=False, sent=sent))
        self.opened: list[EventStream] = []
        self.broken: list[RequestError] = []
        self.registry = CollectorRegistry()
        self.meter = StreamMetrics(self.registry).begin("m", time.perf_counter())
        self.stream = EventStream(Streaming(writer, after, sent), self.opened.append, self.broken.append, self.meter)

    def measured(self) -> tuple[float | None, float | None]:
        """How many beginnings were timed, and how many gaps."""
        first, gaps = (
            self.registry.get_sample_value(f"headrace_stream_{name}_seconds_count", {"model": "m"})
            for name in ("time_to_first_token", "inter_frame")
        )
        return first, gaps

    async def rest(self) -> bytes:
        """All events until the end."""
        return b"".join([some async for some in self.stream.events(ping_s=60)])


def frame(seq: int, text: str) -> Frame:
    return Frame("a", seq, 1, b"", text)


def reply(text: str, finish: str = "stop", frames: int = 2) -> Reply:
    generated = Generated((Choice(0, text, finish),), Usage(3, 2), frames)
    return Reply("a", ModelTag("m", "1", "fp32"), Timing(), generated=generated)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


GOLDEN = (
    b'data: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,'
    b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
    b'id: 0.2\ndata: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,'
    b'"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}]}\n\n'
    b'id: 1.7\ndata: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,'
    b'"delta":{"content":" you!"},"logprobs":null,"finish_reason":null}]}\n\n'
    b'id: 1.7\ndata: {"id":"chatcmpl-a","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,'
    b'"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


def test_frames_become_these_bytes() -> None:
    async def main() -> None:
        made = Made()
        made.stream.frame(frame(0, "Hi"))
        assert made.opened == [made.stream]
        made.stream.frame(frame(1, " you!"))
        made.stream.end(reply("Hi you!"))
        assert await made.rest() == GOLDEN

    run(main)


def test_the_reply_has_what_the_frames_lack() -> None:
    async def main() -> None:
        made = Made()
        made.stream.frame(frame(0, "Hi"))
        made.stream.end(reply("Hi you!"))
        assert await made.rest() == GOLDEN
        late = Made()
        late.stream.end(reply("Hi you!"))  # all of it is in the reply
        text = await late.rest()
        assert b'"content":"Hi you!"' in text and text.endswith(b"data: [DONE]\n\n")

    run(main)


def test_one_who_has_a_part_gets_the_rest() -> None:
    async def main() -> None:
        made = Made(after=0, sent=2)
        made.stream.frame(frame(0, "Hi"))
        assert not made.opened  # it is only looked at
        made.stream.end(reply("Hi you!"))
        text = await made.rest()
        assert b"assistant" not in text and b'"content":" you!"' in text
        stored = Made(after=0, sent=2)
        stored.stream.end(reply("Hi you!"))  # without any of its frames
        assert await stored.rest() == text

    run(main)


@pytest.mark.parametrize(("after", "sent"), [(0, 1), (0, 7), (1, 2), (1, 8)])
def test_one_who_never_had_what_it_says_is_refused(after: int, sent: int) -> None:
    async def main() -> None:
        made = Made(after, sent)
        for seq, text in enumerate(("Hi", " you!", " And you?")):
            made.stream.frame(frame(seq, text))
        [error] = made.broken
        assert (error.outcome.code, error.field) == ("malformed", "Last-Event-ID")
        assert not made.opened  # so the status says it, too

    run(main)


def test_one_who_never_had_what_it_says_hears_of_it_late(monkeypatch: Any) -> None:
    """When the status has been sent, since no frame came for a while."""
    monkeypatch.setattr(events, "OPEN_S", 0.0)

    async def main() -> None:
        made = Made(after=0, sent=1)
        made.stream.admitted(joined=True)
        await asyncio.sleep(0.001)
        made.stream.frame(frame(0, "Hi"))
        assert b'"param":"Last-Event-ID"' in await made.rest()
        assert len(made.broken) == 1

    run(main)


@pytest.mark.parametrize(("after", "sent"), [(2, 7), (9, 2), (1, 8)])
def test_one_who_never_had_what_it_says_is_refused_by_the_whole_answer(after: int, sent: int) -> None:
    async def main() -> None:
        made = Made(after, sent)
        with pytest.raises(RequestError, match="not the id of an event"):
            made.stream.end(reply("Hi you!"))
        assert not made.opened

    run(main)


def test_an_error_is_the_last_event_and_there_is_no_done() -> None:
    async def main() -> None:
        made = Made()
        made.stream.frame(frame(0, "Hi"))
        made.stream.fail(RequestError(CRASHED, "It crashed."))
        made.stream.frame(frame(1, "late"))
        text = await made.rest()
        assert text.endswith(
            b'data: {"error":{"message":"It crashed.","type":"server_error","param":null,"code":"crashed"}}\n\n'
        )
        assert b"late" not in text

    run(main)


def test_half_a_character_makes_no_event() -> None:
    async def main() -> None:
        made = Made()
        made.stream.frame(frame(0, ""))
        made.stream.frame(frame(1, "🙂"))
        made.stream.end(reply("🙂"))
        assert (await made.rest()).count(b"data: ") == 4  # the role, the character, the end, and [DONE]

    run(main)


def test_admission_alone_opens_it_after_a_while_only(monkeypatch: Any) -> None:
    monkeypatch.setattr(events, "OPEN_S", 0.0)

    async def main() -> None:
        made = Made()
        made.stream.admitted(joined=False)
        assert not made.opened
        await asyncio.sleep(0.001)
        assert made.opened == [made.stream]

    run(main)


def test_silence_is_filled_with_comments() -> None:
    async def main() -> None:
        made = Made()
        waiting = made.stream.events(ping_s=0.001)
        assert [await anext(waiting) for _ in range(3)] == [PING] * 3
        await waiting.aclose()  # type: ignore[attr-defined]

    run(main)


def test_a_stock_client_reads_over_comments() -> None:
    """OpenAI's takes a comment with an empty line behind it for an event without data, once there has been an id."""
    events_of = GOLDEN.split(b"\n\n")
    body = b"\n\n".join([*events_of[:3], PING + events_of[3], PING + PING + events_of[4], *events_of[5:]])

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    transport = httpx.MockTransport(answer)
    with openai.OpenAI(
        base_url="http://test/v1", api_key="none", http_client=httpx.Client(transport=transport)
    ) as client:
        chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hi you!"


def test_a_client_that_takes_nothing_ends_with_an_error(monkeypatch: Any) -> None:
    monkeypatch.setattr(events, "MOST_BUFFERED_BYTES", 2000)

    async def main() -> None:
        made = Made()
        for seq in range(100):
            made.stream.frame(frame(seq, "word "))
        [error] = made.broken
        assert error.outcome.code == "overloaded"
        assert len(text := await made.rest()) < 3000 and b"reads too slowly" in text

    run(main)


def test_the_beginning_and_the_gaps_are_timed_where_the_client_gets_them() -> None:
    async def main() -> None:
        made = Made()
        sent = made.stream.events(ping_s=60)
        for seq, text in enumerate(("Hi", " you", "!")):
            made.stream.frame(frame(seq, text))
            await anext(sent)
        assert made.measured() == (1, 2)
        made.stream.frame(frame(3, ""))  # half a character is nothing to see
        made.stream.end(reply("Hi you!"))
        assert [one async for one in sent]
        assert made.measured() == (1, 2)

    run(main)


def test_what_comes_at_once_is_one_beginning() -> None:
    async def main() -> None:
        made = Made()
        made.stream.frame(frame(0, "Hi"))
        made.stream.frame(frame(1, " you!"))
        made.stream.end(reply("Hi you!"))
        await made.rest()
        late = Made()
        late.stream.end(reply("Hi you!"))
        await late.rest()
        assert made.measured() == late.measured() == (1, 0)

    run(main)


def test_neither_errors_nor_one_who_goes_on_count_as_a_beginning() -> None:
    async def main() -> None:
        failed = Made()
        failed.stream.fail(RequestError(CRASHED, "It crashed."))
        await failed.rest()
        assert failed.measured() == (0, 0)
        made = Made(after=0, sent=2)
        made.stream.frame(frame(1, " you!"))
        made.stream.end(reply("Hi you!"))
        await made.rest()
        assert made.measured() == (0, 1)

    run(main)

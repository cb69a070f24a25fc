"""HTTP to addresses that clients name, against real servers: what is checked is what is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from producer_api.net.addresses import AddressRefused, Policy, parse
from producer_api.net.egress import MOST_LOOKUPS, BadAnswer, Egress, Limits, Lookup, Unreachable

HERE = [ipaddress.ip_network("127.0.0.1")]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Site:
    """A server on 127.0.0.1 that gives every connection the same bytes, and keeps what it was sent."""

    def __init__(self, answer: bytes, *, stays_open: bool = False) -> None:
        self._answer, self._stays_open, self.requests = answer, stays_open, list[bytes]()
        self._conversations: list[asyncio.Task[None]] = []

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._conversations.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self._answer)
            if self._stays_open:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()

    async def __aenter__(self) -> Site:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await asyncio.gather(*self._conversations)


def always(*addresses: str) -> Lookup:
    """A resolver that knows one answer."""
    return lambda host, port: addresses


async def get(egress: Egress, url: str, most_bytes: int = 1000, limits: Limits | None = None) -> tuple[int, bytes]:
    async with egress.request("GET", parse(url), {"X-A": "b"}, limits=limits or Limits()) as response:
        return response.status, await response.read(most_bytes)


def outcome(answer: bytes, *, stays_open: bool = False, limits: Limits | None = None) -> tuple[int, bytes]:
    """What comes of a request that is answered so."""

    async def run() -> tuple[int, bytes]:
        async with Site(answer, stays_open=stays_open) as site:
            egress = Egress(Policy(HERE), always("127.0.0.1"))
            return await get(egress, f"http://site.example:{site.port}/", limits=limits)

    return asyncio.run(run())


def test_a_request_reaches_the_address_that_was_checked_under_its_name() -> None:
    async def run() -> None:
        async with Site(OK) as site:
            egress = Egress(Policy(HERE), always("127.0.0.1"))
            assert await get(egress, f"http://site.example:{site.port}/a?b=c") == (200, b"ok")
            head = site.requests[0].decode()
            assert head.startswith(f"GET /a?b=c HTTP/1.1\r\nHost: site.example:{site.port}\r\nX-A: b\r\n")

    asyncio.run(run())


def test_a_name_that_leads_to_a_private_address_is_never_connected_to() -> None:
    async def run() -> None:
        async with Site(OK) as site:
            for addresses in (["127.0.0.1"], ["::ffff:127.0.0.1"], ["8.8.8.8", "127.0.0.1"]):
                with pytest.raises(AddressRefused, match=r"site\.example leads to"):
                    await get(Egress(Policy(), always(*addresses)), f"http://site.example:{site.port}/")
            assert site.requests == []

    asyncio.run(run())


def test_a_name_that_means_another_address_a_moment_later_changes_nothing() -> None:
    """The second lookup would lead to where a server waits; there is none."""
    answers: list[Sequence[str]] = [["127.0.0.2"], ["127.0.0.1"]]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    async def run() -> None:
        async with Site(OK) as site:
            egress = Egress(Policy([ipaddress.ip_network("127.0.0.2")]), rebinding)
            url = f"http://site.example:{site.port}/"
            with pytest.raises(Unreachable, match="cannot be connected to"):
                await get(egress, url)
            with pytest.raises(AddressRefused):
                await get(egress, url)
            assert (site.requests, len(asked)) == ([], 2)

    asyncio.run(run())


def test_a_name_of_this_machine_is_refused_with_the_real_resolver() -> None:
    async def run() -> None:
        with pytest.raises(AddressRefused, match=r"localhost leads to .* not a public address"):
            await get(Egress(Policy()), "http://localhost:8080/")

    asyncio.run(run())


def test_redirects_are_given_and_not_followed() -> None:
    status, body = outcome(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    assert (status, body) == (302, b"")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 204 None\r\n\r\n", b""),
        (OK + b"and what does not belong to it", b"ok"),
    ],
)
def test_every_way_to_end_a_body_is_understood(answer: bytes, body: bytes) -> None:
    assert outcome(answer)[1] == body


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH\r\n", BadAnswer("not valid HTTP")),
        (b"", Unreachable("without an answer")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", BadAnswer("breaks off")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", BadAnswer("breaks off")),
        (b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"b" * 40_000, BadAnswer("head of the answer is longer")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"a" * 2000, BadAnswer("longer than 1,000 bytes")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", BadAnswer("not valid HTTP")),
    ],
)
def test_other_answers_end_the_request_with_the_reason(answer: bytes, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        outcome(answer)


def test_an_answer_that_never_comes_is_waited_for_within_the_limit() -> None:
    with pytest.raises(Unreachable, match=r"site\.example took longer than 0\.05 s"):
        outcome(b"", stays_open=True, limits=Limits(total_s=0.05))
    with pytest.raises(Unreachable, match=r"took longer than 0\.05 s"):
        outcome(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", stays_open=True, limits=Limits(total_s=0.05))


def test_the_first_address_that_answers_is_taken() -> None:
    async def run() -> None:
        async with Site(OK) as site:
            networks = [ipaddress.ip_network("127.0.0.0/8")]
            egress = Egress(Policy(networks), always("127.0.0.3", "127.0.0.1"))
            assert await get(egress, f"http://site.example:{site.port}/") == (200, b"ok")

    asyncio.run(run())


def test_a_plain_server_behind_https_is_no_answer() -> None:
    async def run() -> None:
        async with Site(b"HTTP/1.1 400 Bad\r\n\r\n") as site:
            with pytest.raises(Unreachable, match="cannot be connected to"):
                await get(Egress(Policy(HERE)), f"https://127.0.0.1:{site.port}/", limits=Limits(connect_s=2))

    asyncio.run(run())


def stuck(release: threading.Event) -> Lookup:
    """A resolver that answers once it may."""

    def look(host: str, port: int) -> Sequence[str]:
        release.wait(30)
        return ["127.0.0.1"]

    return look


def run_with_stuck_resolver(check: Callable[[Egress], Awaitable[None]]) -> None:
    release = threading.Event()

    async def run() -> None:
        try:
            await check(Egress(Policy(HERE), stuck(release)))
        finally:
            release.set()

    asyncio.run(run())
    for thread in threading.enumerate():
        if thread.name == "lookup":
            thread.join()


def test_a_slow_resolver_keeps_nobody_for_long_and_is_not_asked_without_end() -> None:
    async def check(egress: Egress) -> None:
        target = parse("http://site.example/")
        waits = [asyncio.create_task(egress.resolve(target, 0.05)) for _ in range(MOST_LOOKUPS + 1)]
        ends = await asyncio.gather(*waits, return_exceptions=True)
        sentences = sorted({str(end) for end in ends})
        assert sentences == ["looking up site.example took longer than 0.05 s", "too many names are being looked up"]

    run_with_stuck_resolver(check)


def test_a_header_cannot_smuggle_another_one() -> None:
    async def run() -> None:
        async with Site(OK) as site:
            url = parse(f"http://127.0.0.1:{site.port}/")
            with pytest.raises(ValueError, match="line break"):
                async with Egress(Policy(HERE)).request("POST", url, {"a": "b\r\nc: d"}):
                    pass

    asyncio.run(run())

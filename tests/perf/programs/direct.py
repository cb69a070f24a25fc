"""[I/O] A direct producer that costs next to nothing.

`python -m tests.perf.programs.direct '{"url": …}'` prints a line of JSON.

It speaks the protocol of docs/protocol.md over one socket, with messages that are packed beforehand: only the id of a
request changes. So many requests are under way at all times; each answer is matched with its request by id, must say
`ok` and, for `echo`, carry the bytes that were sent. One answer of each read is decoded in full. Only such answers
count. Replies are stored by the consumer as for everyone else; at the end some are looked up in Redis.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, Literal
from urllib.parse import urlsplit

import hiredis
import msgpack
import msgspec

from tests.perf import scrape

TTL_MS = 60_000
LARGE_BYTES = 16 * 1024  # from here on docs/protocol.md advises a plain XADD
LIMIT = 100_000  # of the lane: what is under way is bounded here already
QUIET_S = 10.0  # so long without any answer, and what is under way counts as failed
_OK = b"\xa2ok\xc3"


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send. `seconds` of measured time after `warm_up_s`, or else `count` requests.

    `tier` is `fast` (hr1_admit, replies from one stream) or `simple` (XADD and BLPOP, pipelined). `metrics` are the
    consumers' addresses. `tell_every` prints a line `at N` after so many answers.
    """

    url: str
    model: str
    body: str
    content_type: str = "application/octet-stream"
    tier: Literal["fast", "simple"] = "fast"
    in_flight: int = 128
    seconds: float = 0.0
    warm_up_s: float = 1.0
    count: int = 0
    metrics: list[str] = []
    echoes: bool = False
    tell_every: int = 0
    lane: str = "default"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it: verified answers within the measured time; `failed` of all that were sent."""

    items: int
    failed: int
    seconds: float
    mean_ms: float
    p50_ms: float
    p99_ms: float
    durable: int
    stages: scrape.Change | None


class Connection:
    """A socket to Redis; commands go out together, answers are read one by one."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(QUIET_S + 5)
        self._reader = hiredis.Reader()
        self._buffer = bytearray(1 << 20)

    def send(self, parts: Sequence[bytes]) -> None:
        """Write everything."""
        self._socket.sendall(b"".join(parts))

    def receive(self) -> Any:
        """Return the next answer."""
        while (answer := self._reader.gets()) is False:
            count = self._socket.recv_into(self._buffer)
            if not count:
                raise ConnectionError("Redis closed the connection.")
            self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # any buffer will do
        if isinstance(answer, hiredis.ReplyError):
            raise SystemExit(f"Redis refused: {answer}")
        return answer


class Producer:
    """What both tiers share: messages, and the account of what is under way."""

    def __init__(self, job: Job, body: bytes) -> None:
        self.job, self.body = job, body
        self.me = f"bench-{time.time_ns():x}"
        self.connection = Connection(job.url)
        self.work = f"hr:{{{job.model}}}:q:{job.lane}".encode()
        self.reply_key = f"hr:{{{job.model}}}:r:{job.lane}:".encode()
        self.waiting: dict[bytes, float] = {}
        self.sent = self.failed = 0
        self.latencies_s: list[float] = []
        self._before_id, self._after_id = self._message()
        self.length = len(self._before_id) + 24 + len(self._after_id)

    def _message(self) -> tuple[bytes, bytes]:
        mark = b"#" * 24
        message: dict[str, Any] = {"v": 1, "id": mark.decode(), "ttl_ms": TTL_MS, "ct": self.job.content_type}
        message |= {"rt": self.me} if self.job.tier == "fast" else {}
        before, _, after = msgpack.packb({**message, "body": self.body}).partition(mark)
        return before, after

    def next_ids(self, count: int) -> list[bytes]:
        """Make names for requests that are about to be sent."""
        now_s, first = time.perf_counter(), self.sent
        head = self.me[-12:].encode()
        ids = [b"%b%012d" % (head, number) for number in range(first, first + count)]
        self.waiting.update(dict.fromkeys(ids, now_s))
        self.sent += count
        return ids

    def message(self, request_id: bytes) -> bytes:
        """Return a whole message."""
        return self._before_id + request_id + self._after_id

    def add(self, ids: Sequence[bytes]) -> list[bytes]:
        """Return plain XADD commands."""
        head = b"*6\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$10\r\nNOMKSTREAM\r\n$1\r\n*\r\n$1\r\nm\r\n$%d\r\n" % (
            len(self.work), self.work, self.length,
        )  # fmt: skip
        before, after = head + self._before_id, self._after_id + b"\r\n"
        parts: list[bytes] = []
        for request_id in ids:
            parts += (before, request_id, after)
        return parts

    def verify(self, request_id: bytes, reply: bytes | None) -> None:
        """Count an answer: good when it is the first to this request, and right."""
        begun_s = self.waiting.pop(request_id, None)
        if begun_s is None or reply is None or _OK not in reply or (self.job.echoes and self.body not in reply):
            self.failed += 1
            return
        self.latencies_s.append(time.perf_counter() - begun_s)

    def verify_fully(self, request_id: bytes, reply: bytes | None) -> None:
        """Decode an answer and compare it with what was sent."""
        value = msgpack.unpackb(reply or b"\xc0")
        fine = isinstance(value, dict) and value["ok"] and value["id"] == request_id.decode()
        if fine and self.job.echoes:
            fine = value["outputs"][0]["data"] == self.body
        if not fine:
            raise SystemExit(f"A wrong answer came to {request_id.decode()}: {value!r:.300}")

    def looked_up(self, ids: Sequence[bytes]) -> int:
        """Return how many of these replies Redis holds."""
        self.connection.send([command(b"EXISTS", self.reply_key + request_id) for request_id in ids])
        return sum(self.connection.receive() for _ in ids)

    def turn(self, more: int) -> int:
        """Send `more` requests, and take the answers that are there or come next; returns their number."""
        raise NotImplementedError

    def close(self) -> int:
        """Tidy up; returns how many of the last replies were found stored."""
        raise NotImplementedError


class Fast(Producer):
    """Many requests per call of hr1_admit; all replies from one stream, whose ids acknowledge in the next call."""

    def __init__(self, job: Job, body: bytes) -> None:
        super().__init__(job, body)
        self.stream = f"hr:{{{job.model}}}:rs:{job.lane}:{self.me}".encode()
        self.cursor = b"0-0"
        self.delivered: list[bytes] = []
        self.large = len(body) >= LARGE_BYTES
        before, after = self._before_id.replace(b"%", b"%%"), self._after_id.replace(b"%", b"%%")
        self._item = (
            b"$24\r\n%b\r\n$1\r\n0\r\n$" + str(self.length).encode() + b"\r\n" + before + b"%b" + after + b"\r\n"
        )

    def turn(self, more: int) -> int:
        """One write: acknowledgements and requests, then the wait for answers."""
        ids = self.next_ids(more)
        parts, acknowledged = [], self.delivered
        admitted = () if self.large else ids
        head = (b"FCALL", b"hr1_admit", b"1", self.work, b"%d" % LIMIT, self.me.encode(), self.cursor,
                b"%d" % len(acknowledged), b"%d" % len(admitted))  # fmt: skip
        parts.append(b"*%d\r\n" % (len(head) + len(acknowledged) + 3 * len(admitted)) + bulk(*head))
        parts += [b"$24\r\n%b\r\n" % request_id for request_id in acknowledged]
        item = self._item
        parts += [item % (request_id, request_id) for request_id in admitted]
        if self.large:
            parts += self.add(ids)
        parts.append(command(b"XREAD", b"COUNT", b"1000", b"BLOCK", b"%d" % (QUIET_S * 1000), b"STREAMS", self.stream,
                             self.cursor))  # fmt: skip
        self.connection.send(parts)
        statuses = self.connection.receive()[1:]
        statuses += [self.connection.receive() for _ in ids] if self.large else []
        if any(status is None or b"-" not in status for status in statuses):
            raise SystemExit(f"Redis did not take the requests: {statuses[:3]!r}")
        return self._take(self.connection.receive())

    def _take(self, hints: Any) -> int:
        if not hints:
            self.delivered = []
            return 0
        entries = hints[0][1]
        self.cursor = entries[-1][0]
        self.delivered = []
        for number, (_, fields) in enumerate(entries):
            request_id, reply = fields[1], fields[3] if len(fields) > 3 else None
            if reply is None:
                self.connection.send([command(b"LINDEX", self.reply_key + request_id, b"0")])
                reply = self.connection.receive()
            if not number:
                self.verify_fully(request_id, reply)
            self.verify(request_id, reply)
            self.delivered.append(request_id)
        return len(entries)

    def close(self) -> int:
        """Look for the last replies, and delete them and the stream."""
        found = self.looked_up(self.delivered)
        self.connection.send([command(b"UNLINK", self.stream, *(self.reply_key + name for name in self.delivered))])
        self.connection.receive()
        return found


class Simple(Producer):
    """XADD and BLPOP, pipelined: one block of requests is added while the one before is waited for."""

    def __init__(self, job: Job, body: bytes) -> None:
        super().__init__(job, body)
        self.block = max(1, job.in_flight // 2)
        self.asked: list[bytes] = []
        self.stored = 0

    def turn(self, more: int) -> int:
        """Add a block, then wait for the replies of the block before it."""
        ids = self.next_ids(min(more, self.block))
        seconds = b"%d" % QUIET_S
        pops = [command(b"BLPOP", self.reply_key + request_id, seconds) for request_id in self.asked]
        self.connection.send([*self.add(ids), *pops])
        if None in [self.connection.receive() for _ in ids]:
            raise SystemExit("No consumer has served this model here yet.")
        for number, request_id in enumerate(self.asked):
            answer = self.connection.receive()
            reply = answer[1] if answer else None
            if not number:
                self.verify_fully(request_id, reply)
            self.verify(request_id, reply)
        taken, self.asked = len(self.asked), ids
        self.stored = taken or self.stored
        return taken or (1 if ids else 0)

    def close(self) -> int:
        """Nothing is left: every reply was read from its key, which shows that it was stored."""
        return self.stored


def bulk(*arguments: bytes) -> bytes:
    """Return arguments as RESP bulk strings."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments)


def command(*arguments: bytes) -> bytes:
    """Return one command in RESP."""
    return b"*%d\r\n" % len(arguments) + bulk(*arguments)


def drive(producer: Producer, until: Callable[[int], bool], *, drain: bool = False) -> None:
    """Keep `in_flight` requests under way until `until(answers so far)`; then, if asked to, wait for the rest."""
    job, answered, told = producer.job, 0, 0
    while not until(answered) or (drain and producer.waiting):
        wanted = 0 if until(answered) else job.in_flight - len(producer.waiting)
        taken = producer.turn(wanted)
        if not taken:
            break
        answered += taken
        if job.tell_every and answered // job.tell_every > told:
            told = answered // job.tell_every
            print(f"at {told * job.tell_every}", flush=True)


def measure(job: Job, body: bytes) -> Outcome:
    """Warm up, measure, drain."""
    producer = (Fast if job.tier == "fast" else Simple)(job, body)
    deadline_s = time.perf_counter() + job.warm_up_s
    drive(producer, lambda _: time.perf_counter() >= deadline_s)
    producer.latencies_s.clear()
    before = [scrape.read(url) for url in job.metrics]
    begun_s = time.perf_counter()
    if job.count:
        drive(producer, lambda answered: answered >= job.count)
    else:
        drive(producer, lambda _: time.perf_counter() >= begun_s + job.seconds)
    took_s = time.perf_counter() - begun_s
    after = [scrape.read(url) for url in job.metrics]
    scraped_s = time.perf_counter() - begun_s
    latencies_s = sorted(producer.latencies_s)
    drive(producer, lambda _: True, drain=True)
    durable = producer.close()
    if not latencies_s:
        raise SystemExit("Nothing was answered.")
    return Outcome(
        items=len(latencies_s),
        failed=producer.failed + len(producer.waiting),
        seconds=took_s,
        mean_ms=fmean(latencies_s) * 1000,
        p50_ms=latencies_s[len(latencies_s) // 2] * 1000,
        p99_ms=latencies_s[min(len(latencies_s) - 1, int(len(latencies_s) * 0.99))] * 1000,
        durable=durable,
        stages=scrape.change(before, after, scraped_s) if job.metrics else None,
    )


def main() -> None:
    """Read the job from the command line, and print what became of it."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    with open(job.body, "rb") as file:
        outcome = measure(job, file.read())
    print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    main()

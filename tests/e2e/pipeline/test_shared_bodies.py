"""Bodies in shared memory between real processes: when they go that way, and what happens when they are gone."""

from __future__ import annotations

import contextlib
import os
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumer.queue.interface import Completion
from consumer.queue.redis_stream import RedisStream
from shared import keys
from shared.redis.client import connect
from shared.settings import Settings
from shared.wire import bodies
from shared.wire.fast import decode_reply, encode_reply
from shared.wire.messages import Fault, ModelTag, Reply, Timing, decode_request, encode_request
from tests.e2e.stack import Process, Response, Stack, echo_models
from tests.helpers import eventually

PICTURE = os.urandom(150_528)
LEASE_MS = 1000
WAIT_S = 20.0

pytestmark = pytest.mark.skipif(not bodies.ROOT.is_dir(), reason="there is no /dev/shm")


class Site:
    """A front end, a consumer that echoes, and what is between them.

    Attributes:
        resent_before: what the front end had counted as sent again when the test began.
    """

    def __init__(self, url: str, model: str, stack: Stack) -> None:
        self.model, self.stack, self.url = model, stack, url
        self.client = connect(url)
        self.work = keys.work(model, "default")
        self.front_end = stack.start_front_end()
        self.consumer = stack.start_consumer(model)
        stack.wait(model)
        self._senders = ThreadPoolExecutor(4)
        self.resent_before = 0.0

    def counted(self, name: str) -> float:
        """One figure of the front end's metrics."""
        with urllib.request.urlopen(f"{self.stack.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    def resent(self) -> float:
        """How many bodies were sent again since the test began."""
        return self.counted("headrace_bodies_resent_total") - self.resent_before

    def agree(self) -> None:
        """Wait until a picture goes through shared memory."""

        def does() -> bool:
            future, (_, request) = self.held()
            self.go_on()
            assert future.result(WAIT_S).status == 200
            return request.at is not None

        eventually(does)

    def entries(self) -> list[Any]:
        """What is in the lane."""
        found: Any = self.client.xrange(self.work)
        return list(found)

    def held(self) -> tuple[Future[Response], tuple[bytes, Any]]:
        """Send a picture that no consumer takes for now; returns its answer to be, its entry and what that says."""
        self.consumer.signal(signal.SIGSTOP)
        future = self._senders.submit(self.stack.predict, self.model, PICTURE)
        ((entry, fields),) = eventually(self.entries)
        return future, (entry, decode_request(fields[b"m"]))

    def go_on(self) -> None:
        self.consumer.signal(signal.SIGCONT)

    def echoes(self, answer: Response) -> None:
        assert answer.status == 200, answer.body
        assert bytes(answer.body["outputs"][0]["data"]) == PICTURE
        assert self.client.xlen(self.work) == 0
        assert self.counted("headrace_shared_bodies_bytes") == 0
        assert self.client.xlen(keys.dead_letters(self.model, "default")) == 0

    def claimed(self) -> tuple[Future[Response], tuple[bytes, Any]]:
        """As :meth:`held`; the consumer has the entry, since it was stopped while it waited for one."""

        def attempt() -> tuple[Future[Response], tuple[bytes, Any]] | None:
            future, found = self.held()
            pending: Any = self.client.xpending(self.work, keys.GROUP)
            if pending["pending"] == 1:
                return future, found
            self.go_on()  # it was stopped between two reads
            self.echoes(future.result(WAIT_S))
            return None

        return eventually(attempt)

    def file(self) -> Path:
        """The front end's file."""
        folder = bodies.ROOT / f"headrace-{os.geteuid()}"
        (found,) = [one for one in folder.iterdir() if _is_open(self.front_end, one)]
        return found


def _is_open(process: Process, path: Path) -> bool:
    for descriptor in Path(f"/proc/{process.popen.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(descriptor) == str(path):
                return True
    return False


@pytest.fixture(scope="module")
def shared_site(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    model = f"bodies-{os.urandom(4).hex()}"
    models = echo_models(tmp_path_factory.mktemp("bodies"), model)
    with Stack(valkey_url, models, LEASE_MS=str(LEASE_MS), LONGEST_BATCH_MS="5000") as stack:
        made = Site(valkey_url, model, stack)
        yield made
        made.go_on()
        made._senders.shutdown()
        made.client.close()


@pytest.fixture
def site(shared_site: Site) -> Site:
    """One for all tests, in which front end and consumer run and pictures go through shared memory."""
    if shared_site.front_end.popen.poll() is not None:
        shared_site.front_end = shared_site.stack.start_front_end()
    shared_site.go_on()
    shared_site.agree()
    shared_site.resent_before = shared_site.counted("headrace_bodies_resent_total")
    return shared_site


def test_the_entry_is_short_and_the_answer_is_whole(site: Site) -> None:
    future, (_, request) = site.held()
    assert request.at is not None and request.body is None
    ((_, fields),) = site.entries()
    assert len(fields[b"m"]) < 400
    assert site.counted("headrace_shared_bodies_bytes") > len(PICTURE)
    site.go_on()
    site.echoes(future.result(WAIT_S))
    assert site.resent() == 0


def test_a_body_that_is_gone_is_sent_again_through_the_queue(site: Site) -> None:
    future, (_, request) = site.held()
    assert request.at is not None
    os.truncate(site.file(), 0)
    site.go_on()
    site.echoes(future.result(WAIT_S))
    assert site.resent() == 1


@pytest.mark.soak
def test_after_somebody_has_removed_the_file_one_body_is_sent_twice_and_no_more(site: Site) -> None:
    site.file().unlink()

    def was_noticed() -> bool:  # a consumer keeps it open until its next heartbeat
        site.echoes(site.stack.predict(site.model, PICTURE))
        return site.resent() > 0

    eventually(was_noticed)
    site.agree()
    future, (_, request) = site.held()
    assert request.at is not None
    site.go_on()
    site.echoes(future.result(WAIT_S))
    assert site.resent() == 1
    assert site.file().exists()


def test_what_a_dead_consumer_had_claimed_comes_back_whole(site: Site) -> None:
    future, (_, request) = site.claimed()
    assert request.at is not None
    site.consumer.popen.kill()
    site.consumer = site.stack.start_consumer(site.model)
    site.echoes(future.result(WAIT_S))
    assert site.resent() == 1


def test_a_consumer_of_an_older_version_that_meets_such_an_entry_does_no_harm(site: Site) -> None:
    future, (entry, request) = site.claimed()
    assert request.at is not None
    refusal = Fault("malformed", "A request has no member 'at'.", "at")
    reply = encode_reply(Reply(request.id, ModelTag(site.model, "1", "fp32"), Timing(), 1, fault=refusal))
    older = RedisStream(Settings(redis_url=site.url), site.model, "older")
    assert older.commit([Completion(entry, request.id, request.reply_to or "", 60_000, reply)]) == [1]
    ((_, again),) = eventually(lambda: [one for one in site.entries() if one[0] != entry])
    assert decode_request(again[b"m"]).body == PICTURE
    site.go_on()
    site.echoes(future.result(WAIT_S))


def test_one_consumer_that_does_not_read_it_and_bodies_go_through_the_queue(site: Site) -> None:
    other = site.stack.start_consumer(site.model, SHARED_BODIES_MB="0")

    def is_whole() -> bool:
        other.signal(signal.SIGSTOP)
        future, (_, request) = site.held()
        site.go_on()
        other.signal(signal.SIGCONT)
        site.echoes(future.result(WAIT_S))
        return bool(request.body == PICTURE)

    eventually(is_whole)
    resent = site.resent()
    assert all(is_whole() for _ in range(3))
    assert site.resent() == resent
    other.terminate()


def test_a_request_with_an_id_of_its_clients_own_is_whole(site: Site) -> None:
    site.consumer.signal(signal.SIGSTOP)
    future = site._senders.submit(site.stack.predict, site.model, PICTURE, "application/octet-stream", "?id=mine")
    ((_, fields),) = eventually(site.entries)
    assert decode_request(fields[b"m"]).body == PICTURE
    site.go_on()
    site.echoes(future.result(WAIT_S))


def test_who_writes_a_reference_by_hand_gets_nobody_elses_body(site: Site) -> None:
    site.client.hset(keys.lanes(site.model), "spy", "100,1")
    eventually(lambda: site.client.exists(keys.work(site.model, "spy")))
    future, (_, request) = site.held()
    assert request.at is not None
    for lane, request_id in (("spy", request.id), ("spy", "a"), ("default", "b")):
        forged = msgspec.structs.replace(request, id=request_id, reply_to=f"by-{request_id}")
        site.client.xadd(keys.work(site.model, lane), {"m": encode_request(forged)})
    site.go_on()
    for lane, request_id in (("spy", request.id), ("spy", "a"), ("default", "b")):
        hints: Any = site.client.xread({keys.reply_stream(site.model, lane, f"by-{request_id}"): "0"}, block=10_000)
        ((_, ((_, hint),)),) = hints
        fault = decode_reply(hint[b"reply"]).fault
        assert fault is not None and fault.code == "body_gone"
    site.echoes(future.result(WAIT_S))


def test_a_client_that_goes_away_and_one_that_waits_too_long_leave_nothing(site: Site) -> None:
    future, _ = site.held()
    short = site._senders.submit(site.stack.predict, site.model, PICTURE, "application/octet-stream", "?timeout_ms=200")
    assert short.result(WAIT_S).status == 504
    site.go_on()
    assert future.result(WAIT_S).status == 200
    eventually(lambda: site.counted("headrace_shared_bodies_bytes") == 0)


def test_a_killed_front_end_leaves_a_file_which_the_next_one_removes(site: Site) -> None:
    left = site.file()
    future, _ = site.held()
    site.front_end.popen.kill()
    site.front_end.popen.wait()
    with pytest.raises(OSError, match=r".*"):
        future.result(WAIT_S)
    assert left.exists()
    site.go_on()
    site.front_end = site.stack.start_front_end()
    assert not left.exists()
    site.stack.wait(site.model)
    site.agree()


def test_a_front_end_that_stops_removes_its_file(site: Site) -> None:
    left = site.file()
    site.front_end.terminate()
    assert not left.exists()

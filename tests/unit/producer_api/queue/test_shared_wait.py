"""How a request whose body is in shared memory ends, as its front end sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from producer_api.load.lane_account import LaneAccount
from producer_api.queue.body_store import BodyStore
from producer_api.queue.shared_wait import SharedWait
from shared.wire import bodies
from shared.wire.bodies import Owner
from shared.wire.fast import encode_reply
from shared.wire.messages import Fault, ModelTag, Reply, Request, Timing
from shared.wire.outcomes import EXPIRED, RequestError

BODY = bytes(50_000)
TTL_MS = 60_000

Done = Callable[[bytes | RequestError], None]


class Lane:
    """Takes requests as a channel does, and is told by the test how they end."""

    def __init__(self) -> None:
        self.account = LaneAccount()
        self.begun: list[tuple[Request, Done]] = []

    def begin(self, request: Request, *, id_is_generated: bool, done: Done) -> Any:
        assert id_is_generated
        self.begun.append((request, done))
        return SimpleNamespace(waiter=None, give_up=lambda: None)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BodyStore]:
    monkeypatch.setattr(bodies, "ROOT", tmp_path)
    made = BodyStore("fe-1", 1 << 20)
    yield made
    made.close()


def _refused(code: str, field: str | None = None) -> bytes:
    return encode_reply(Reply("a", ModelTag("cat", "1", "fp32"), Timing(), fault=Fault(code, "no", field)))


def _wait(store: BodyStore, ttl_ms: int = TTL_MS) -> tuple[Lane, list[bytes | RequestError]]:
    lane, ends = Lane(), list[bytes | RequestError]()
    at = store.put(BODY, Owner("cat", "default", "a"))
    assert at is not None
    SharedWait(lane, store, Request("a", ttl_ms, "image/png", BODY), at, ends.append, lambda: None)  # type: ignore[arg-type]
    assert lane.account.shared_bytes == len(BODY) and lane.begun[0][0].body is None
    return lane, ends


@pytest.mark.parametrize("refused", [_refused("body_gone"), _refused("malformed", "at")])
def test_it_goes_once_more_with_its_body_and_the_second_end_counts(store: BodyStore, refused: bytes) -> None:
    lane, ends = _wait(store)
    lane.begun[0][1](refused)
    assert not ends and store.used_bytes == lane.account.shared_bytes == 0
    again, done = lane.begun[1]
    assert (again.id, again.body, again.at) == ("a", BODY, None) and 0 < again.ttl_ms <= TTL_MS
    done(refused)
    assert ends == [refused] and len(lane.begun) == 2


@pytest.mark.parametrize("code", ["invalid_input", "expired", "model_error", "malformed"])
def test_what_a_model_says_is_the_end(store: BodyStore, code: str) -> None:
    lane, ends = _wait(store)
    lane.begun[0][1](_refused(code))
    assert ends == [_refused(code)] and len(lane.begun) == 1
    assert store.used_bytes == lane.account.shared_bytes == 0
    assert store.put(BODY, Owner("cat", "default", "b")) is not None  # whoever sends such bodies holds up nobody


def test_a_body_that_is_not_found_too_late_to_be_sent_again_has_expired(store: BodyStore) -> None:
    """What consumers and front ends say between themselves is nothing for a client."""
    lane, ends = _wait(store, ttl_ms=1)
    end_s = time.perf_counter() + 0.002
    while time.perf_counter() < end_s:
        pass
    lane.begun[0][1](_refused("body_gone"))
    (end,) = ends
    assert isinstance(end, RequestError) and end.outcome is EXPIRED and end.request_id == "a"
    assert len(lane.begun) == 1

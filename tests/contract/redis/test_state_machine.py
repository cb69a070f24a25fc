"""Whatever may happen to a lane, in any order, on a real server; and the promises of docs/protocol.md after each step.

Several workers read, crash, fall silent and come back late; clients add, ask again, take, give up; replies expire; the
server loses the group or everything. What must be there is told by a few sets, and compared with what is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from consumer.queue.interface import Completion, Dead, Entry, StreamGone
from consumer.queue.redis_stream import RedisStream
from shared import keys
from shared.redis import functions, library
from shared.redis.client import connect
from tests.contract.lanes import LANE, card
from tests.contract.lanes import settings as headrace_settings
from tests.helpers import eventually

LIMIT = 6
WORKERS = ("a", "b", "c")
IDS = strategies.sampled_from([f"id-{number}" for number in range(5)])
PRINTS = strategies.sampled_from(["", "one", "two"])
NAMES = strategies.sampled_from(WORKERS)
TTL_MS, EXPIRY_MS = 600_000, 1_000_000
INSTANCES = ("here", "there")


@dataclass
class Life:
    """One entry that was added and has not ended.

    Attributes:
        owner: who has it; empty while nobody has.
        deliveries: as the group counts them.
        deleted: taken out of the stream although it has an owner.
    """

    id: str
    owner: str = ""
    deliveries: int = 0
    deleted: bool = False


@dataclass
class Truth:
    """What must be on the server."""

    entries: dict[bytes, Life] = field(default_factory=dict)
    visible: dict[str, bytes] = field(default_factory=dict)
    flights: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    dead: list[bytes] = field(default_factory=list)
    hinted: set[tuple[str, str]] = field(default_factory=set)
    made: bool = True

    @property
    def in_stream(self) -> dict[bytes, Life]:
        """Entries that the stream holds."""
        return {entry: life for entry, life in self.entries.items() if not life.deleted}

    @property
    def unclaimed(self) -> list[bytes]:
        """Entries that nobody has, in order."""
        return [entry for entry, life in self.in_stream.items() if not life.owner]


class Lane(RuleBasedStateMachine):
    """The machine; ``url`` and ``names`` are set by the test."""

    url = ""
    names: Iterator[str]

    @initialize()
    def begin(self) -> None:
        """A lane of its own, with its workers."""
        self.model = next(self.names)
        self.client = connect(self.url)
        self.work = keys.work(self.model, LANE)
        self.truth = Truth()
        common = headrace_settings(self.url)
        # The first of each pair keeps its leases; for the second every lease has run out.
        self.streams = {name: RedisStream(common, self.model, name) for name in WORKERS}
        self.hungry = {name: RedisStream(common, self.model, name) for name in WORKERS}
        for stream in self.hungry.values():
            stream._settings = replace(common, lease_ms=0)
        self.held: dict[str, list[Entry]] = {name: [] for name in WORKERS}
        self.beat("a")

    def teardown(self) -> None:
        """Bring everything that was added to its end, and leave nothing behind."""
        if not hasattr(self, "client"):
            return
        try:
            self.finish()
        finally:
            found: Any = list(self.client.scan_iter(match=f"hr:{{{self.model}}}:*", count=1000))
            if found:
                self.client.unlink(*found)
            self.client.zrem(keys.MODELS, self.model)
            for stream in (*self.streams.values(), *self.hungry.values()):
                stream.close()
            self.client.close()

    def finish(self) -> None:
        """A worker that lives does all there is: nothing that was added is stranded, whoever died before."""
        self.beat("a")
        while self.truth.unclaimed:
            self.read("a", 10)
        for _ in range(len(self.truth.entries)):
            self.reclaim("b")
            for entry in list(self.held["b"]):
                self.commit("b", [entry])
        self.as_it_must_be()
        assert self.truth.entries == {}

    # ---- producers

    def _admit(self, items: list[tuple[str, str]], limit: int, acks: list[str]) -> list[Any]:
        requests = [(request_id, check, f"message of {request_id}") for request_id, check in items]
        call = functions.admit(self.work, limit, "here", "", acks, requests)
        answer: list[Any] = self.client.execute_command(*call)
        return answer

    @rule(ids=strategies.lists(IDS, min_size=1, max_size=3), prints=PRINTS, remembered=strategies.booleans())
    def admit(self, ids: list[str], prints: str, remembered: bool) -> None:
        """Add requests through the front end's function."""
        check = f"1:{TTL_MS}:{EXPIRY_MS}:{prints}" if remembered else "1"
        length, *statuses = self._admit([(one, check) for one in ids], LIMIT, [])
        for request_id, status in zip(ids, statuses, strict=True):
            self._admitted(request_id, status.decode(), prints if remembered else None)
        assert length == len(self.truth.in_stream)

    def _admitted(self, request_id: str, status: str, prints: str | None) -> None:
        truth = self.truth
        flight, had = truth.flights.get(request_id, (b"", ""))
        differs = bool(prints is not None and flight and prints and had and prints != had)
        if request_id in truth.visible:
            assert status == ("differs" if differs else "answered")
        elif prints is not None and flight in truth.in_stream:
            assert status == ("differs" if differs else f"joined {flight.decode()}")
        elif not truth.made:
            assert status == "absent"
        elif len(truth.in_stream) >= LIMIT:
            assert status == "full"
        else:
            self._added(request_id, status.encode())
            if prints is not None:
                truth.flights[request_id] = (status.encode(), prints)

    def _added(self, request_id: str, entry: bytes) -> None:
        assert entry not in self.truth.entries
        self.truth.entries[entry] = Life(request_id)

    @rule(request_id=IDS)
    def add_directly(self, request_id: str) -> None:
        """A direct producer adds, whatever the limit says and whoever has this id."""
        entry: Any = self.client.xadd(self.work, {"m": f"message of {request_id}"}, nomkstream=True)
        assert (entry is not None) == self.truth.made
        if entry is not None:
            self._added(request_id, entry)

    @rule(ids=strategies.lists(IDS, max_size=3))
    def acknowledge(self, ids: list[str]) -> None:
        """A front end has delivered some replies."""
        self._admit([], LIMIT, ids)
        for request_id in ids:
            self.truth.visible.pop(request_id, None)

    @rule(request_id=IDS)
    def expire_reply(self, request_id: str) -> None:
        """The time of a reply is over."""
        self.client.delete(keys.reply(self.model, LANE, request_id))
        self.truth.visible.pop(request_id, None)

    @precondition(lambda self: self.truth.in_stream)
    @rule(data=strategies.data())
    def give_up(self, data: Any) -> None:
        """Nobody wants an answer any more: the entry is taken out, claimed or not."""
        entry = data.draw(strategies.sampled_from(sorted(self.truth.in_stream)))
        assert self.client.xdel(self.work, entry) == 1
        life = self.truth.entries[entry]
        if life.owner:
            life.deleted = True
        else:
            del self.truth.entries[entry]

    @rule(request_id=IDS, told=strategies.booleans(), data=strategies.data())
    def cancel(self, request_id: str, told: bool, data: Any) -> None:
        """A request is taken back: the one that is remembered for an id, or one whose entry is known."""
        truth = self.truth
        noted, _ = truth.flights.get(request_id, (b"", ""))
        entry = data.draw(strategies.sampled_from([b"", *sorted(truth.entries)]))
        if entry:
            request_id = truth.entries[entry].id
            noted, _ = truth.flights.get(request_id, (b"", ""))
        life = truth.entries.pop(entry or noted, None)
        (status,) = self.client.execute_command(*functions.cancel(self.work, [(request_id, entry)], tell=told))
        if life is None or life.deleted:
            assert status == (b"answered" if request_id in truth.visible else b"unknown")
            return
        assert status == (b"claimed" if life.owner else b"queued")
        if noted == (entry or noted):
            truth.flights.pop(request_id, None)

    @rule(request_id=IDS)
    def ask(self, request_id: str) -> None:
        """Somebody asks how an id stands."""
        (status,) = self.client.execute_command(*functions.ask(self.work, request_id))
        life = self.truth.in_stream.get(self.truth.flights.get(request_id, (b"", ""))[0])
        if request_id in self.truth.visible:
            assert status == b"answered"
        else:
            assert status == (b"unknown" if life is None else b"claimed" if life.owner else b"queued")

    # ---- workers

    @rule(name=NAMES, what=strategies.sampled_from(["beat", "renew", "leave", "reap"]))
    def keep_house(self, name: str, what: str) -> None:
        """What a worker does beside its work."""
        if what != "reap" or self.truth.made:
            getattr(self, what)(name)

    def beat(self, name: str) -> None:
        """A heartbeat makes what is missing; a lost group begins at 0."""
        self.streams[name].heartbeat(card(self.model), {})
        self.truth.made = True

    @precondition(lambda self: self.truth.unclaimed)
    @rule(name=NAMES, most=strategies.integers(1, 4))
    def read(self, name: str, most: int) -> None:
        """Claim what is new."""
        before = self.truth.unclaimed[:most]
        entries = self.streams[name].read(most)
        assert [entry.entry_id for entry in entries] == before
        self._claimed(name, entries)

    @precondition(lambda self: self.truth.unclaimed)
    @rule(name=NAMES, most=strategies.integers(1, 4))
    def read_and_lose_the_answer(self, name: str, most: int) -> None:
        """The server claims for the worker, and the answer gets lost; the next read brings what is not held."""
        self.client.xreadgroup(keys.GROUP, name, {self.work: ">"}, count=most)
        for entry in self.truth.unclaimed[:most]:
            self.truth.entries[entry].owner, self.truth.entries[entry].deliveries = name, 1
        stream = self.streams[name]
        stream._claimed_after = {keys.DEFAULT_LANE: b"0-0"}
        known = {entry.entry_id for entry in self.held[name]}
        while stream._claimed_after:
            self.held[name] += [one for one in stream.read(2) if one.entry_id not in known]
        for gone in [one for one, life in self.truth.entries.items() if life.owner == name and life.deleted]:
            del self.truth.entries[gone]  # what is looked at and not there any more is taken off the list
        mine = {one for one, life in self.truth.in_stream.items() if life.owner == name}
        assert mine <= {entry.entry_id for entry in self.held[name]}

    def _claimed(self, name: str, entries: list[Entry]) -> None:
        for entry in entries:
            life = self.truth.entries[entry.entry_id]
            life.owner, life.deliveries = name, 1
            assert entry.message == f"message of {life.id}".encode()
            assert entry.attempt == 1
        self.held[name] += entries

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        """A worker forgets everything. Its successor has its name here, which is the worse case."""
        self.held[name] = []
        self.streams[name]._claimed_after = {}

    def renew(self, name: str) -> None:
        """What is told to be lost is what the worker does not own."""
        claims = [entry.claim for entry in self.held[name]]
        if claims and not self.truth.made:
            with pytest.raises(StreamGone):
                self.streams[name].renew(claims)
            return
        lost = self.streams[name].renew(claims)
        owned = {entry for entry, life in self.truth.entries.items() if life.owner == name}
        assert [claim for claim in claims if claim[1] not in owned] == lost
        for gone in [claim[1] for claim in claims if claim[1] in owned and self.truth.entries[claim[1]].deleted]:
            del self.truth.entries[gone]  # XCLAIM takes what is not there any more off the list

    @precondition(lambda self: self.truth.made)
    @rule(name=NAMES)
    def reclaim(self, name: str) -> None:
        """Take over the oldest whose lease has run out, and run it alone: only then it counts."""
        owned = sorted((entry for entry, life in self.truth.entries.items() if life.owner), key=_order)
        found = self.hungry[name].reclaim(1)
        if not owned:
            assert found == []
            return
        life = self.truth.entries[owned[0]]
        if life.deleted:
            assert found == []
            del self.truth.entries[owned[0]]
            return
        (entry,) = found
        assert (entry.entry_id, entry.attempt) == (owned[0], life.deliveries + 1)
        life.owner = name
        self.held[name].append(entry)

    @precondition(lambda self: self.truth.made and any(self.held.values()))
    @rule(data=strategies.data())
    def begin_isolated(self, data: Any) -> None:
        """Count a delivery, if the worker still owns the entry."""
        name = data.draw(strategies.sampled_from([name for name in WORKERS if self.held[name]]))
        self._begin(name, data.draw(strategies.sampled_from(self.held[name])))

    def _begin(self, name: str, entry: Entry) -> None:
        life = self.truth.entries.get(entry.entry_id)
        begun = self.streams[name].begin_isolated(entry)
        if life is None or life.owner != name:
            assert not begun
        elif life.deleted:
            # XCLAIM takes what is gone off the list.
            assert not begun
            del self.truth.entries[entry.entry_id]
        else:
            assert begun
            life.deliveries = entry.attempt

    def _drawn(self, data: Any) -> tuple[str, list[Entry]]:
        name = data.draw(strategies.sampled_from([name for name in WORKERS if self.held[name]]))
        chosen = data.draw(strategies.lists(strategies.sampled_from(self.held[name]), min_size=1, max_size=4))
        return name, chosen

    @precondition(lambda self: any(self.held.values()))
    @rule(data=strategies.data(), stored=strategies.booleans())
    def commit_some(self, data: Any, stored: bool) -> None:
        """End requests, late ones, the same one twice and one that is none among them; or say that they expired."""
        name, entries = self._drawn(data)
        self.commit(name, entries, stored=stored)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=strategies.data())
    def end_answered(self, data: Any) -> None:
        """End what was sent twice, where there is a reply."""
        name, entries = self._drawn(data)
        known = self.streams[name].end_answered([self._ended(name, entry, EXPIRY_MS) for entry in entries])
        for entry, is_known in zip(entries, known, strict=True):
            one = self._ended(name, entry, EXPIRY_MS)
            assert is_known == (one.request_id in self.truth.visible)
            if is_known:
                self.truth.entries.pop(entry.entry_id, None)
                self.truth.hinted.add((one.reply_to, one.request_id))
                self._put_down(name, [entry])

    def commit(self, name: str, entries: list[Entry], *, stored: bool = True) -> None:
        """See the rule; each reply says who made it of which entry."""
        ended = [self._ended(name, entry, EXPIRY_MS if stored else 0) for entry in entries]
        bad = Completion(b"no-entry", "id-0", "", EXPIRY_MS, b"bad")
        before = dict(self.truth.entries)
        statuses = self.streams[name].commit([bad, *ended])
        assert statuses[0] == -1
        for one, status in zip(ended, statuses[1:], strict=True):
            self._ended_as(one, status, before)
        self._put_down(name, entries)

    def _ended(self, name: str, entry: Entry, expiry_ms: int) -> Completion:
        request_id = (entry.message or b"").decode().rpartition(" ")[2]
        reply = f"{request_id} of {entry.entry_id.decode()} by {name}".encode()
        instance = INSTANCES[len(request_id + name) % 2]
        return Completion(entry.entry_id, request_id, instance, expiry_ms, reply)

    def _ended_as(self, one: Completion, status: int, before: dict[bytes, Life]) -> None:
        truth = self.truth
        life = truth.entries.get(one.entry_id)
        self.truth.hinted.add((one.reply_to, one.request_id))
        if life is None:
            assert status == 0, "an entry that had ended ended again"
            return
        if status == 0:
            # Not claimed by anybody (the group was made again), or given up by its client: either is right.
            assert not life.owner or life.deleted
            if life.deleted:
                del truth.entries[one.entry_id]
            return
        assert before[one.entry_id].id == one.request_id
        del truth.entries[one.entry_id]
        if one.expiry_ms == 0:
            assert status == 1
        elif one.request_id in truth.visible:
            assert status == 2
        else:
            assert status == 1
            truth.visible[one.request_id] = one.reply

    def _put_down(self, name: str, entries: list[Entry]) -> None:
        ended = {entry.entry_id for entry in entries}
        self.held[name] = [entry for entry in self.held[name] if entry.entry_id not in ended]

    @precondition(lambda self: any(self.held.values()))
    @rule(data=strategies.data())
    def bury(self, data: Any) -> None:
        """Make a dead letter of one."""
        name, entries = self._drawn(data)
        self._bury(name, entries[0])

    def _bury(self, name: str, entry: Entry) -> None:
        ended = self._ended(name, entry, EXPIRY_MS)
        life = self.truth.entries.get(ended.entry_id)
        (status,) = self.streams[name].dead_letter([Dead(ended, "as told", 2)])
        if life is not None and life.owner and not life.deleted:
            self.truth.dead.append(ended.entry_id)
        if life is not None and not life.owner:
            assert status == 0
            self.truth.hinted.add((ended.reply_to, ended.request_id))
        else:
            self._ended_as(ended, status, dict(self.truth.entries))
        self._put_down(name, [entry])

    # ---- workers that come late

    def _stale(self) -> list[tuple[str, Entry]]:
        """What workers hold that has ended, or is another's by now, or nobody's."""
        return [
            (name, entry)
            for name, entries in self.held.items()
            for entry in entries
            if (life := self.truth.entries.get(entry.entry_id)) is None or life.owner != name
        ]

    @precondition(lambda self: self.truth.made and any(life.owner for life in self.truth.entries.values()))
    @rule(name=NAMES, stored=strategies.booleans())
    def take_over_and_end(self, name: str, stored: bool) -> None:
        """Somebody takes over the oldest entry and ends it, whoever else still holds it."""
        before = len(self.held[name])
        self.reclaim(name)
        for entry in self.held[name][before:]:
            self.commit(name, [entry], stored=stored)

    @precondition(lambda self: len(self.truth.unclaimed) > 1)
    @rule(slow=NAMES, thief=NAMES, stored=strategies.booleans(), ends=strategies.booleans())
    def be_late(self, slow: str, thief: str, stored: bool, ends: bool) -> None:
        """A worker is slow: another takes over the oldest entry, and perhaps ends it; then it ends its own at once."""
        before = len(self.held[slow])
        self.read(slow, 3)
        claimed = self.held[slow][before:]
        if ends:
            self.take_over_and_end(thief, stored)
        else:
            self.reclaim(thief)
            for entry in self.held[slow]:
                self._begin(slow, entry)
        self.as_it_must_be()
        self.commit(slow, claimed)

    @precondition(lambda self: self._stale())
    @rule(data=strategies.data(), last=strategies.integers(0, 3))
    def commit_late(self, data: Any, last: int) -> None:
        """A worker ends what is not its own any more, together with what is."""
        name, entry = data.draw(strategies.sampled_from(self._stale()))
        self.commit(name, [*self.held[name][:last], entry])

    @precondition(lambda self: self.truth.made and self._stale())
    @rule(data=strategies.data())
    def begin_late(self, data: Any) -> None:
        """A worker begins to run what is not its own any more."""
        self._begin(*data.draw(strategies.sampled_from(self._stale())))

    @precondition(lambda self: self._stale())
    @rule(data=strategies.data())
    def bury_late(self, data: Any) -> None:
        """A worker makes a dead letter of what is not its own any more."""
        self._bury(*data.draw(strategies.sampled_from(self._stale())))

    def leave(self, name: str) -> None:
        """A worker signs off: what it still has stays pending."""
        self.streams[name].leave()

    def reap(self, name: str) -> None:
        """Names without work go; nothing pending is stranded."""
        self.hungry[name].reap()

    # ---- the server

    @rule(what=strategies.sampled_from(["nothing", "nothing", "nothing", "group", "everything"]))
    def lose(self, what: str) -> None:
        """The server loses something, though not often."""
        if what == "group":
            self.lose_group()
        elif what == "everything":
            self.flush()

    def lose_group(self) -> None:
        """The group is deleted; the next heartbeat makes it again, and everything is read anew."""
        if self.truth.made:
            self.client.xgroup_destroy(self.work, keys.GROUP)
            self.truth.entries = {entry: Life(life.id) for entry, life in self.truth.in_stream.items()}
            self.beat("a")

    def flush(self) -> None:
        """The server loses everything."""
        found: Any = list(self.client.scan_iter(match=f"hr:{{{self.model}}}:*", count=1000))
        if found:
            self.client.delete(*found)
        self.truth = Truth(made=False)
        flushed_s = self.now_s()
        eventually(lambda: self.now_s() > flushed_s + 0.002)  # an id may not be given a second time

    def now_s(self) -> float:
        """The server's clock."""
        found: Any = self.client.time()
        return float(found[0] + found[1] / 1e6)

    # ---- what must be so

    @invariant()
    def as_it_must_be(self) -> None:
        """Compare everything on the server with the truth."""
        if not hasattr(self, "client"):
            return
        truth = self.truth
        with self.client.pipeline(transaction=False) as pipe:
            pipe.xrange(self.work)
            pipe.xpending_range(self.work, keys.GROUP, "-", "+", 1000)
            pipe.xrange(keys.dead_letters(self.model, LANE))
            for instance in INSTANCES:
                pipe.xrange(keys.reply_stream(self.model, LANE, instance))
            stream, pending, dead, *hints = pipe.execute(raise_on_error=False)
        assert {entry: fields[b"m"].rpartition(b" ")[2].decode() for entry, fields in stream} == {
            entry: life.id for entry, life in truth.in_stream.items()
        }
        if truth.made:
            assert {one["message_id"]: (one["consumer"].decode(), one["times_delivered"]) for one in pending} == {
                entry: (life.owner, life.deliveries) for entry, life in truth.entries.items() if life.owner
            }
        assert [fields[b"entry"] for _, fields in dead] == truth.dead
        for instance, found in zip(INSTANCES, hints, strict=True):
            assert {(instance, fields[b"id"].decode()) for _, fields in found} <= truth.hinted
        self._replies()

    def _replies(self) -> None:
        """One reply per id, always the first one; nothing else grows for ever."""
        found: list[bytes] = list(self.client.scan_iter(match=f"hr:{{{self.model}}}:*", count=1000))
        prefix = keys.reply(self.model, LANE, "")
        replies = {}
        for name in map(bytes.decode, found):
            if name.startswith(prefix):
                replies[name.removeprefix(prefix)] = self.client.lrange(name, 0, -1)
        assert replies == {request_id: [reply] for request_id, reply in self.truth.visible.items()}
        stays = {self.work, keys.dead_letters(self.model, LANE), keys.card(self.model), keys.lanes(self.model)}
        with self.client.pipeline(transaction=False) as pipe:
            for key in found:
                pipe.pttl(key)
            for key, left_ms in zip(found, pipe.execute(), strict=True):
                assert (key.decode() in stays) == (left_ms == -1), key


def _order(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)


def run(url: str, prefix: str, examples: int, *, derandomize: bool) -> None:
    """Run the machine on lanes of its own."""
    with connect(url) as client:
        library.load(client)
    machine = type("Machine", (Lane,), {"url": url, "names": (f"{prefix}-{number}" for number in count())})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(120)
def test_the_promises_hold_whatever_happens(valkey_url: str, model_name: str) -> None:
    run(valkey_url, model_name, 50, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_promises_hold_for_long(valkey_url: str, model_name: str) -> None:
    run(valkey_url, model_name, int(os.environ.get("HEADRACE_TEST_EXAMPLES", "3000")), derandomize=False)

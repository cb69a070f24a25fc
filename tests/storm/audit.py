"""What is left over when the storm is over: keys, connections, descriptors, requests [I/O]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared import keys, limits
from tests.storm.census import Census
from tests.storm.hostile import is_hostile, nonce_in
from tests.storm.ledger import End, Ledger
from tests.storm.world import LANES, World

REDIS_MAY_GROW_BYTES = 4 << 20
"""Buffers of connections, and the functions."""
MAY_GROW, MAY_GROW_KIB = 1.2, 16 * 1024
"""How much a process may grow between the middle and the end: what it keeps does not depend on how long it lives."""


async def _left_in(world: World, work: str, workers: set[str]) -> list[str]:
    """Return what is left in a lane: entries, claims, names of consumers that are gone."""
    entries: Any = await world.redis.xrange(work)
    left = [f"entry {entry_id.decode()} of {nonce_in(fields[b'm'])!r}" for entry_id, fields in entries]
    pending: Any = await world.redis.xpending(work, keys.GROUP)
    if pending["pending"]:
        left.append(f"{pending['pending']} pending entries in {work}")
    consumers: Any = await world.redis.xinfo_consumers(work, keys.GROUP)
    return left + [f"name {name} in {work}" for one in consumers if (name := one["name"].decode()) not in workers]


async def keys_left(world: World, ledger: Ledger) -> list[str]:
    """Return the keys that nobody accounts for; entries of the lane and of its group count as such, too."""
    listed: Any = await world.redis.zrange(keys.workers(world.model), 0, -1)
    workers = {name.decode() for name in listed}
    expected = {
        keys.MODELS,
        keys.card(world.model),
        keys.lanes(world.model),
        keys.workers(world.model),
        *(keys.work(world.model, lane) for lane in LANES),
        *(keys.dead_letters(world.model, lane) for lane in LANES),
        *(keys.worker(world.model, name) for name in workers),
    }
    for lane in LANES:  # one for each lane, whatever happened there, kept for an hour and within its bound
        ends = keys.terminations(world.model, lane)
        if await world.redis.pttl(ends) > 0 and await world.redis.xlen(ends) <= 1.1 * limits.ENDS_CAP:
            expected.add(ends)
    for key in (keys.starts(world.model), keys.lane_bytes(world.model)):  # of the model; they go by themselves
        if await world.redis.pttl(key) > 0:
            expected.add(key)
    left = [key.decode() async for key in world.redis.scan_iter(count=1000) if key.decode() not in expected]
    for lane in LANES:
        left += await _left_in(world, keys.work(world.model, lane), workers)
    for what in left:
        ledger.breach("leaked keys", what)
    return left


async def dead_letters(world: World, ledger: Ledger) -> dict[str, int]:
    """Hold the dead letters against the account: each is one that was sent; each that ended as dead has one."""
    letters: Any = [
        letter for lane in LANES for letter in await world.redis.xrange(keys.dead_letters(world.model, lane)) or ()
    ]
    reasons: dict[str, int] = {}
    named = set()
    for _, fields in letters:
        reason = fields[b"reason"].decode()
        reasons[reason] = reasons.get(reason, 0) + 1
        nonce = nonce_in(fields[b"m"])
        named.add(nonce)
        if nonce not in ledger.cases and not is_hostile(fields[b"m"], ledger):
            ledger.breach("strange dead letter", f"A dead letter holds {fields[b'm'][:64]!r}.")
    for case in ledger.cases.values():
        if case.end is End.DEAD and case.nonce not in named:
            ledger.breach("missing dead letter", f"{case.nonce} was said to be dead and is no dead letter.")
    return reasons


def leaks(world: World, before: dict[str, Census], ledger: Ledger) -> dict[str, dict[str, int]]:
    """Return what processes that lived through hold more than before, by process."""
    found = {}
    census = world.census()
    for kind in ("front-end", "consumer"):
        if not any(name.startswith(kind) for name in census.keys() & before.keys()):
            ledger.breach("nothing to compare", f"No {kind} lived through, so nobody knows whether it leaks.")
    for name, now in census.items():
        more = now.over(before[name]) if name in before else {}
        if more:
            found[name] = more
            ledger.breach("leaked descriptors", f"{name} holds {more} more than before.")
    return found


async def connections_left(world: World, ledger: Ledger) -> int:
    """Return how many connections the server holds that no process has."""
    listed: Any = await world.redis.client_list()
    held = sum(one.redis for one in world.census().values())
    left = len(listed) - held - 1  # one is the storm's own
    if left > 0:
        ledger.breach("leaked connections", f"The server holds {left} connections that no process has.")
    return max(0, left)


async def memory(world: World, before: dict[str, Census], redis_bytes: int, ledger: Ledger) -> dict[str, Any]:
    """Compare memory with before: Redis's without the dead letters, which stay, and that of those who lived through."""
    sizes: Any = [await world.redis.memory_usage(keys.dead_letters(world.model, lane), samples=0) for lane in LANES]
    info: Any = await world.redis.info("memory")
    now = info["used_memory"] - sum(size or 0 for size in sizes)
    if now > redis_bytes + REDIS_MAY_GROW_BYTES:
        ledger.breach("memory", f"Redis holds {now:,} bytes, and at the start {redis_bytes:,}.")
    found: dict[str, Any] = {"Redis, bytes": [redis_bytes, now]}
    for name, one in world.census().items():
        if name in before:
            found[f"{name}, KiB"] = [before[name].resident_kib, one.resident_kib]
            if one.resident_kib > before[name].resident_kib * MAY_GROW + MAY_GROW_KIB:
                ledger.breach(
                    "memory", f"{name} has {one.resident_kib:,} KiB, and before {before[name].resident_kib:,}."
                )
    return found


def runs(folder: Path) -> dict[str, int]:
    """Return how often each request was run, as the model noted it."""
    counted: dict[str, int] = {}
    for path in folder.glob("runs-*"):
        for name in path.read_text().split("\n"):
            if name:
                counted[name] = counted.get(name, 0) + 1
    return counted

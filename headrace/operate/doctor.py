"""`headrace doctor`: what is wrong, and what to do about it [I/O]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from headrace.findings import Finding as Finding  # callers take it from here
from headrace.output import print_json, print_table
from headrace.redis import inspection, server_settings
from shared.modules import COMMAND
from shared.redis import library
from shared.redis.client import ServerError
from shared.state.desired_state import LATE, VERSION
from shared.state.lanes import BATCH
from shared.state.starts import Phase

from . import tuning
from .minimum_versions import OLDEST_LIBRARIES, OLDEST_REDIS, OLDEST_VALKEY, is_below

EXIT_OK: Final = 0
EXIT_SICK: Final = 1
FULL_SHARE = 0.9
FUTURE_S = 5.0
_NO_LANE = "hr:{doctor}:q:"
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red", "unknown": "yellow"}


def run(client: Any, lease_ms: int, as_json: bool) -> int:
    """Carry out the command; 1 when there is a problem."""
    found = list(examine(client, lease_ms))
    if as_json:
        print_json({"findings": [asdict(one) for one in found]})
    else:
        rows = [(one.check, one.state, one.detail) for one in found]
        print_table(("CHECK", "STATE", "FOUND"), rows, [_COLOURS[one.state] for one in found])
    return EXIT_SICK if any(one.state == "problem" for one in found) else EXIT_OK


def examine(client: Any, lease_ms: int) -> Iterator[Finding]:
    """Look at everything.

    Raises:
        shared.redis.RedisError: Redis does not answer.
    """
    client.ping()
    yield from _server(client)
    yield _users(client)
    yield _functions(client)
    for model in inspection.models(client):
        yield from _model(client, model, lease_ms)
    yield from libraries(_installed())


def _server(client: Any) -> Iterator[Finding]:
    try:
        info = client.info()
    except ServerError:
        yield Finding("server", "unknown", "This user may not ask for INFO; ask as the administrator.")
        return
    yield from judge_server(info)
    own = client.connection_pool.connection_kwargs.get("db")
    yield from server_settings.judge_use(info, int(own or 0))
    yield from _settings(client)


def _settings(client: Any) -> Iterator[Finding]:
    try:
        found = client.config_get(*server_settings.LOOKED_AT)
    except ServerError:
        text = "This user, or this server, has no CONFIG GET; ask as the administrator, or look where your provider"
        yield Finding("settings", "unknown", f"{text} shows them (docs/redis.md lists those that matter).")
        return
    yield from server_settings.judge({_text(name): _text(value) for name, value in found.items()})


def judge_server(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what INFO says. Pure."""
    yield _version(info)
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        yield Finding("eviction", "ok", "noeviction: a full server refuses, and loses nothing.")
    else:
        yield Finding("eviction", "problem", f"{policy}: requests may vanish; set maxmemory-policy to noeviction.")
    yield _memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)))
    if info.get("aof_enabled") != 1:
        yield Finding("persistence", "warning", "No append-only file: a restart of the server loses the queue.")
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield Finding("persistence", "problem", "The append-only file cannot be written; look at the server's disk.")
    else:
        yield Finding("persistence", "ok", "The append-only file is on.")


def _version(info: Mapping[str, Any]) -> Finding:
    if "valkey_version" in info:
        name, number, oldest = "Valkey", str(info["valkey_version"]), OLDEST_VALKEY
    else:
        name, number, oldest = "Redis", str(info.get("redis_version", "")), OLDEST_REDIS
    if is_below(number, oldest):
        return Finding("server", "problem", f"{name} {number} is older than {oldest}; use a newer one.")
    return Finding("server", "ok", f"{name} {number}.")


def _memory(used: int, most: int) -> Finding:
    if most == 0:
        return Finding("memory", "warning", "No maxmemory: a flood may take all memory of the machine; set one.")
    text = f"{used >> 20} of {most >> 20} MB used."
    if used > FULL_SHARE * most:
        return Finding("memory", "problem", f"{text} New requests will be refused; raise maxmemory or drain.")
    return Finding("memory", "ok", text)


def _users(client: Any) -> Finding:
    try:
        rules = [_text(line) for line in client.execute_command("ACL", "LIST")]
        limits = {_text(name): _text(value) for name, value in client.config_get("bind", "protected-mode").items()}
    except ServerError:
        return Finding("users", "unknown", "This user may not list users; ask as the administrator.")
    return judge_users(rules, limits.get("bind", ""), limits.get("protected-mode") == "yes")


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def judge_users(rules: Iterable[str], bind: str, protected: bool) -> Finding:
    """Judge the users of a server that listens on ``bind``. Pure.

    Args:
        rules: a line for each, as ACL LIST gives them.
        bind: the addresses, with a ``-`` before those that need not exist; nothing means all.
        protected: the server accepts only this machine while the default user has no password.
    """
    words = [line.split() for line in rules]
    open_users = sorted(one[1] for one in words if len(one) > 2 and "on" in one[2:] and "nopass" in one[2:])
    if not open_users:
        return Finding("users", "ok", "Every user has a password.")
    addresses = [address.removeprefix("-") for address in bind.split()] or ["*"]
    is_local = all(address.startswith("127.") or address in ("::1", "localhost") for address in addresses)
    if is_local or (protected and "default" in open_users):
        return Finding("users", "ok", f"{', '.join(open_users)} without a password, on this machine only.")
    text = f"{', '.join(open_users)} without a password, and other machines reach the server; see docs/security.md."
    return Finding("users", "problem", text)


def _functions(client: Any) -> Finding:
    load = f"run `{COMMAND} functions load`"
    try:
        listed = client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", library.NAME, "WITHCODE")
    except ServerError:
        missing = [name for name in library.names() if _is_missing(client, name)]
        if missing:
            return Finding("functions", "problem", f"{', '.join(missing)} missing; {load}.")
        return Finding("functions", "ok", "All are there; only the administrator sees of which version.")
    code, ours = library.library_code(listed), library.source()
    if code is None:
        return Finding("functions", "problem", f"Not loaded; {load}.")
    if library.version(code) > library.version(ours):
        return Finding("functions", "ok", "Loaded, of a newer version than this checkout's, which stays.")
    missing = [name for name in library.names() if f"'{name}'" not in code]
    if missing:
        return Finding("functions", "problem", f"{', '.join(missing)} missing, of an older version; {load}.")
    if code != ours:
        return Finding("functions", "warning", f"Another version than this checkout's; {load}.")
    return Finding("functions", "ok", "Loaded, of this version.")


def _is_missing(client: Any, name: str) -> bool:
    """Call a function with a key that all of them refuse before they do anything."""
    try:
        client.fcall(name, 1, _NO_LANE)
    except ServerError as error:
        return library.is_missing(error)
    return False


def _model(client: Any, model: inspection.Model, lease_ms: int) -> Iterator[Finding]:
    live = {worker.name for worker in model.workers if worker.silent_s * 1000 < lease_ms}
    waiting = sum(lane.depth for lane in model.lanes)
    name = f"model {model.name}"
    for place, failure in model.failures.items():
        text = f"{place}: {failure.sentence(model.looked_at_ms)} {failure.why}".rstrip()
        yield Finding(name, "warning" if live else "problem", text)
    for one in model.starting:
        if one.phase is Phase.FAILED:
            yield Finding(name, "problem", f"{one.worker} cannot load it: {one.detail}")
        else:
            yield Finding(name, "warning", f"{one.worker} has been loading it for {one.for_s:.0f} s: {one.detail}.")
    if live:
        yield Finding(name, "ok", f"{len(live)} live workers.")
    elif model.starting:
        pass
    elif waiting:
        yield Finding(name, "problem", f"No live worker, and {waiting} requests wait; start a consumer.")
    else:
        yield Finding(name, "warning", "No live worker.")
    for worker in model.workers:
        late_s = worker.fields.get(LATE, "")
        if worker.name in live and late_s:
            text = f"{worker.name} takes requests and has answered none for {late_s} s"
            todo = f"its log says why; end its process {worker.fields.get('pid', '')} and another takes them over"
            yield Finding(name, "problem", f"{text}; {todo}.")
    yield from _versions(model, live)
    yield from tuning.judge(model, live)
    for lane in model.lanes:
        yield from _lane(client, model.name, lane, live, lease_ms)


def _versions(model: inspection.Model, live: set[str]) -> Iterator[Finding]:
    """Find live workers that write one card over the other; one of a release that does not tell is left out."""
    serving: dict[str, list[str]] = {}
    for worker in model.workers:
        if worker.name in live and worker.fields.get(VERSION):
            serving.setdefault(worker.fields[VERSION], []).append(worker.name)
    if len(serving) > 1:
        told = "; ".join(f"{version} by {', '.join(sorted(names))}" for version, names in sorted(serving.items()))
        text = f"Live workers serve {len(serving)} versions of it and overwrite each other's card: {told}"
        yield Finding(f"model {model.name}", "warning", f"{text}. End those of one, or give it a name of its own.")


def _lane(client: Any, model: str, lane: inspection.Lane, live: set[str], lease_ms: int) -> Iterator[Finding]:
    name = f"lane {model}/{lane.name}"
    if not lane.has_stream:
        yield Finding(name, "problem", "There is no stream; a live consumer makes it within its heartbeat.")
    elif not lane.has_group:
        yield Finding(name, "problem", "There is no group `workers`; a live consumer makes it within its heartbeat.")
    elif lane.ahead_s > FUTURE_S:
        text = f"Its newest id lies {lane.ahead_s:.0f} s in the future, so requests are not taken for what they are"
        yield Finding(name, "problem", f"{text}; `{COMMAND} lane repair {model} {lane.name}`.")
    elif lane.limit is not None and lane.depth > lane.limit:
        text = f"{lane.depth} requests, the limit is {lane.limit}: a direct producer writes past it"
        todo = f"`{COMMAND} lane guard --times 1 --once` switches off its user"
        yield Finding(name, "problem" if lane.depth > 2 * lane.limit else "warning", f"{text}; {todo}.")
    elif lane.limit is not None and lane.depth >= lane.limit:
        yield Finding(name, "warning", f"Full: {lane.depth} requests, the limit is {lane.limit}.")
    else:
        yield Finding(name, "ok", f"{lane.depth} requests{' (batch lane)' if lane.kind == BATCH else ''}.")
    if lane.later is not None and lane.later.kept_bytes >= FULL_SHARE * lane.later.limit_bytes:
        text = f"The kept results take {lane.later.kept_bytes} of {lane.later.limit_bytes} bytes"
        todo = "when full, new later requests get 507: raise HEADRACE_KEPT_BYTES, or have clients keep less"
        yield Finding(name, "warning", f"{text}; {todo}.")
    if lane.dead_letters:
        yield Finding(name, "warning", f"{lane.dead_letters} dead letters; see `{COMMAND} dlq list {model}`.")
    for consumer, pending, idle_s in inspection.consumers(client, model, lane.name):
        if pending and idle_s * 1000 > lease_ms:
            end = "it hangs" if consumer in live else "it is gone"
            todo = "start a consumer, which takes them over" if not live else "another takes them over"
            text = f"{consumer} holds {pending} requests and has been silent for {idle_s:.0f} s: {end}; {todo}."
            yield Finding(name, "warning" if live else "problem", text)


def _installed() -> Iterator[tuple[str, str]]:
    for name in OLDEST_LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue  # each process has only its own


def libraries(installed: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """Compare versions with their floors. Pure."""
    for name, number in installed:
        if is_below(number, OLDEST_LIBRARIES[name]):
            yield Finding(
                f"library {name}", "problem", f"{number} is older than {OLDEST_LIBRARIES[name]}; install a newer one."
            )
        else:
            yield Finding(f"library {name}", "ok", f"{number}.")

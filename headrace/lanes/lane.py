"""`headrace lane`: a model's lanes, their limits and weights, and the way back when one was spoilt [I/O]."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from headrace.exit_codes import EXIT_FAILED, EXIT_USAGE
from headrace.output import confirm, print_json, print_table
from headrace.redis import inspection
from headrace.redis.access import check_model, end
from shared import keys
from shared.names import is_name
from shared.redis import functions
from shared.state import lanes
from shared.state.cards import TOKEN

ALL = 10_000_000
LIMIT = 2048
"""Of a lane that is made without one."""

DEFAULT_IS_ORDINARY = (
    "The lane default cannot be a batch lane, since what names no lane goes there; make another one: "
    "`lane set {model} nightly --kind batch`."
)


class Bounds(NamedTuple):
    """What an operator sets of a lane besides its number of requests, None for what stays as it is.

    Attributes:
        limit_bytes: of requests and stored replies.
        most_tokens: of the prompts of its requests, 0 for any number.
        kind: ``batch`` or ``ordinary``.
    """

    limit_bytes: int | None = None
    most_tokens: int | None = None
    kind: str | None = None

    def said(self) -> str:
        """Say it behind the lane's name."""
        tokens = "any number of" if self.most_tokens == 0 else self.most_tokens
        parts = [] if self.limit_bytes is None else [f"{self.limit_bytes} bytes"]
        takes = " and ".join([*parts, *([] if self.most_tokens is None else [f"{tokens} prompt tokens"])])
        is_a = {None: "", lanes.BATCH: "is a batch lane", lanes.ORDINARY: "is an ordinary lane"}[self.kind]
        return " and ".join(said for said in (f"may take {takes}" if takes else "", is_a) if said)

    def record(self) -> dict[str, Any]:
        """Return what is set as members of a record."""
        values = {"limit_bytes": self.limit_bytes, "limit_tokens": self.most_tokens, "kind": self.kind}
        return {name: value for name, value in values.items() if value is not None}


def show_list(client: Any, model: str, as_json: bool) -> int:
    """List the lanes of a model, ``default`` first."""
    _check(client, model)
    found = sorted(inspection.lanes(client, model), key=lambda one: (one.name != keys.DEFAULT_LANE, one.name))
    if as_json:
        print_json({"model": model, "lanes": [_record(one) for one in found]})
        return 0
    rows = [
        (one.name, one.kind, "-" if one.limit is None else str(one.limit), one.weight_text, str(one.depth),
         str(one.running), *byte_columns(one.bytes), "-" if one.oldest_age_s is None else f"{one.oldest_age_s:.1f} s",
         str(one.dead_letters))
        for one in found
    ]  # fmt: skip
    print_table(("LANE", "KIND", "LIMIT", "WEIGHT", "DEPTH", "RUNNING", *BYTE_COLUMNS, "OLDEST", "DEAD"), rows)
    return 0


def create(client: Any, model: str, lane: str, limit: int, weight: float, bounds: Bounds, as_json: bool) -> int:
    """Make a lane; consumers serve it from their next heartbeat on."""
    _check(client, model, lane)
    known = inspection.lane_settings(client, model)
    if lane in known:
        end(f"Model {model} has a lane {lane} already; `lane limit` changes it.", EXIT_FAILED)
    if len(known) >= lanes.MOST_LANES:
        end(f"Model {model} has {len(known)} lanes, and more than {lanes.MOST_LANES} are not served.", EXIT_FAILED)
    _set(client, model, lane, limit, weight, bounds)
    client.execute_command(*functions.lanes(keys.work(model, lane)))
    kind = "batch lane" if bounds.kind == lanes.BATCH else "lane"
    return _report(model, lane, {"created": lane}, f"model {model} has a {kind} {lane} now", as_json)


def put(
    client: Any,
    model: str,
    lane: str,
    limit: int | None,
    weight: float | None,
    bounds: Bounds,
    as_json: bool,
) -> int:
    """Make a lane, or change the one that is there."""
    _check(client, model, lane)
    if lane in inspection.lane_settings(client, model):
        return set_limit(client, model, lane, limit, weight, bounds, as_json)
    limit = LIMIT if limit is None else limit
    return create(client, model, lane, limit, 1.0 if weight is None else weight, bounds, as_json)


def pause(client: Any, model: str, lane: str, paused: bool, as_json: bool) -> int:
    """Have consumers claim nothing more of a lane, or go on; front ends accept requests up to its limit."""
    _check(client, model, lane)
    _known(client, model, lane)
    field = lanes.paused_field(lane)
    if paused:
        client.hset(keys.lanes(model), field, lanes.PAUSED)
    else:
        client.hdel(keys.lanes(model), field)
    done = "is paused: within two seconds nothing more of it is claimed" if paused else "is open"
    return _report(model, lane, {"paused": paused}, f"lane {lane} of {model} {done}", as_json)


def empty(client: Any, model: str, lane: str, yes: bool, as_json: bool) -> int:
    """Drop all requests of a lane, those too that run; the lane itself stays."""
    _check(client, model, lane)
    _known(client, model, lane)
    depth = client.xlen(keys.work(model, lane))
    confirm(
        f"Drop {depth} requests of lane {lane} of {model}? Clients that wait hear nothing until their deadline.", yes
    )
    kept, gone, *_ = client.execute_command(*functions.repair(keys.work(model, lane), 0))
    said = f"lane {lane} of {model} is empty; {gone} requests were dropped"
    return _report(model, lane, {"kept": kept, "dropped": gone}, said, as_json)


def set_limit(
    client: Any,
    model: str,
    lane: str,
    limit: int | None,
    weight: float | None,
    bounds: Bounds,
    as_json: bool,
) -> int:
    """Change how many requests a lane may hold, how many bytes or prompt tokens, its weight, or some of these."""
    _check(client, model, lane)
    old_limit, old_weight = _known(client, model, lane)
    if limit is None and weight is None:  # the lane's own limit and weight stay as they are
        if not bounds.record():
            end("Say a limit, --weight, --bytes, --tokens, --kind, or some of these.", EXIT_USAGE)
        _set_bounds(client, model, lane, bounds)
        return _report(model, lane, bounds.record(), f"lane {lane} of {model} {bounds.said()}", as_json)
    new_limit = old_limit if limit is None else limit
    if new_limit is None:
        end(f"Lane {lane} has no limit yet: say one.", EXIT_USAGE)
    new_weight = old_weight if weight is None else weight
    _set(client, model, lane, new_limit, new_weight, bounds)
    said = f"lane {lane} of {model} holds {new_limit} requests and has the weight {new_weight:g}"
    if bounds.record():
        said = f"{said}, and {bounds.said()}"
    return _report(model, lane, {"limit": new_limit, "weight": new_weight, **bounds.record()}, said, as_json)


def repair(client: Any, model: str, lane: str, keep: int | None, yes: bool, as_json: bool) -> int:
    """Recreate a lane's stream and group, with the oldest ``keep`` requests in it; None for as many as its limit."""
    _check(client, model, lane)
    limit, _ = _known(client, model, lane)
    most = keep if keep is not None else (limit or ALL)
    depth = client.xlen(keys.work(model, lane))
    dropped = f", and {depth - most} are dropped" if depth > most else ""
    confirm(
        f"Recreate lane {lane} of {model}? Of its {depth} requests {min(depth, most)} are put back{dropped}; "
        "they start afresh, including those that run now.",
        yes,
    )
    kept, gone, *_ = client.execute_command(*functions.repair(keys.work(model, lane), most))
    said = f"lane {lane} of {model} is recreated; {kept} requests were put back, {gone} dropped"
    return _report(model, lane, {"kept": kept, "dropped": gone}, said, as_json)


def remove(client: Any, model: str, lane: str, yes: bool, as_json: bool) -> int:
    """Take a lane away with everything in it."""
    _check(client, model, lane)
    if lane == keys.DEFAULT_LANE:
        end("Every model has a lane default; it cannot be removed.", EXIT_USAGE)
    _known(client, model, lane)
    depth, dead = client.xlen(keys.work(model, lane)), client.xlen(keys.dead_letters(model, lane))
    confirm(f"Remove lane {lane} of {model} with {depth} requests and {dead} dead letters?", yes)
    with client.pipeline(transaction=True) as step:
        step.hdel(keys.lanes(model), lane, lanes.bytes_field(lane), lanes.tokens_field(lane), lanes.paused_field(lane))
        step.hdel(keys.lanes(model), lanes.kind_field(lane))
        step.unlink(keys.work(model, lane), keys.dead_letters(model, lane), keys.terminations(model, lane))
        step.unlink(keys.stored(model, lane))
        step.execute()
    said = f"lane {lane} of {model} is gone, with {depth} requests and {dead} dead letters"
    return _report(model, lane, {"requests": depth, "dead_letters": dead}, said, as_json)


def _check(client: Any, model: str, lane: str = keys.DEFAULT_LANE) -> None:
    if not is_name(model) or not is_name(lane):
        end("Model and lane must be 1 to 64 letters, digits, '_' or '-'.", EXIT_USAGE)
    check_model(client, model)


def _known(client: Any, model: str, lane: str) -> tuple[int | None, float]:
    known = inspection.lane_settings(client, model).get(lane)
    if known is None:
        end(f"Model {model} has no lane {lane}; `lane list {model}` shows those it has.", EXIT_USAGE)
    return known


def _set(client: Any, model: str, lane: str, limit: int, weight: float, bounds: Bounds) -> None:
    try:
        value = lanes.encode(limit, weight)
    except ValueError as error:
        end(str(error), EXIT_USAGE)
    _set_bounds(client, model, lane, bounds)
    client.hset(keys.lanes(model), lane, value)


def _set_bounds(client: Any, model: str, lane: str, bounds: Bounds) -> None:
    fields: dict[str, str] = {}
    if lane == keys.DEFAULT_LANE and bounds.kind == lanes.BATCH:
        end(DEFAULT_IS_ORDINARY.format(model=model), EXIT_USAGE)
    try:
        if bounds.limit_bytes is not None:
            fields[lanes.bytes_field(lane)] = lanes.encode_bytes(bounds.limit_bytes)
        if bounds.most_tokens is not None:
            fields[lanes.tokens_field(lane)] = lanes.encode_tokens(bounds.most_tokens)
    except ValueError as error:
        end(str(error), EXIT_USAGE)
    if bounds.most_tokens and inspection.unit(client, model) != TOKEN:
        end(f"Model {model} counts no tokens, so a lane cannot have a limit of them.", EXIT_USAGE)
    if bounds.kind == lanes.BATCH:
        fields[lanes.kind_field(lane)] = lanes.BATCH
    elif bounds.kind == lanes.ORDINARY:
        client.hdel(keys.lanes(model), lanes.kind_field(lane))
    if fields:
        client.hset(keys.lanes(model), mapping=fields)


BYTE_COLUMNS = ("QUEUED MIB", "STORED MIB", "MOST MIB", "TOKENS", "MOST TOKENS")


def byte_columns(found: lanes.LaneBytes | None) -> tuple[str, str, str, str, str]:
    """Return what a lane takes as the columns of a table, in MiB and in prompt tokens."""
    if found is None:
        return "-", "-", "-", "-", "-"
    queued, stored, most = (f"{count / (1 << 20):.1f}" for count in (found.queued, found.stored, found.limit))
    counts = bool(found.kilotoken_bytes)
    return queued, stored, most, str(found.tokens) if counts else "-", str(found.most_tokens or "-")


def byte_record(found: lanes.LaneBytes | None) -> dict[str, int | None]:
    """Return what a lane takes as members of a record."""
    if found is None:
        return dict.fromkeys(("queued_bytes", "stored_bytes", "limit_bytes", "queued_tokens", "limit_tokens"))
    return {
        "queued_bytes": found.queued,
        "stored_bytes": found.stored,
        "limit_bytes": found.limit,
        "queued_tokens": found.tokens if found.kilotoken_bytes else None,
        "limit_tokens": found.most_tokens or None,
    }


def _record(lane: inspection.Lane) -> dict[str, Any]:
    return {
        "lane": lane.name,
        "limit": lane.limit,
        "weight": lane.weight,
        "kind": lane.kind,
        "paused": lane.is_paused,
        "depth": lane.depth,
        "running": lane.running,
        **byte_record(lane.bytes),
        "oldest_age_s": lane.oldest_age_s,
        "dead_letters": lane.dead_letters,
    }


def _report(model: str, lane: str, done: dict[str, Any], said: str, as_json: bool) -> int:
    if as_json:
        print_json({"model": model, "lane": lane, **done})
    else:
        click.echo(f"headrace: {said}.")
    return 0

"""`headrace lane` on the command line. What it does is in the modules that are imported when it is called."""

from __future__ import annotations

import os
import sys

import click

from headrace.options import as_json_option, duration_option, yes_option

# `up` needs no Redis client, so nothing that needs one is imported here.


_bytes_option = click.option(
    "--bytes",
    "limit_bytes",
    type=int,
    help="Bytes that its requests and stored replies may take together; half of the server's memory unless set.",
)

_tokens_option = click.option(
    "--tokens",
    "most_tokens",
    type=int,
    help="Prompt tokens that its requests may have, waiting and running; 0 for any number.",
)


_kind_option = click.option(
    "--kind",
    type=click.Choice(["batch", "ordinary"]),
    help="batch: its requests run only while no request of an ordinary lane waits.",
)


@click.group()
def lane() -> None:
    """Lanes: a separate queue for each tenant or priority of a model."""


@lane.command("list")
@click.argument("model")
@as_json_option
def list_lanes(model: str, as_json: bool) -> None:
    """List the lanes of MODEL."""
    from headrace.redis.access import connected

    from . import lane as command

    with connected(os.environ) as client:
        sys.exit(command.show_list(client, model, as_json))


@lane.command("create")
@click.argument("model")
@click.argument("name", metavar="LANE")
@click.option("--limit", type=int, default=2048, show_default=True, help="Requests it may hold, waiting and running.")
@click.option("--weight", type=float, default=1.0, show_default=True, help="Its share while lanes compete.")
@_bytes_option
@_tokens_option
@_kind_option
@as_json_option
def create_lane(
    model: str,
    name: str,
    limit: int,
    weight: float,
    limit_bytes: int | None,
    most_tokens: int | None,
    kind: str | None,
    as_json: bool,
) -> None:
    """Create a lane of MODEL. Consumers and front ends use it within two seconds."""
    from headrace.redis.access import connected

    from . import lane as command

    with connected(os.environ) as client:
        bounds = command.Bounds(limit_bytes, most_tokens, kind)
        sys.exit(command.create(client, model, name, limit, weight, bounds, as_json))


@lane.command("limit")
@click.argument("model")
@click.argument("name", metavar="LANE")
@click.argument("limit", type=int, required=False)
@click.option("--weight", type=float, help="Its share while lanes compete.")
@_bytes_option
@_tokens_option
@_kind_option
@as_json_option
def limit_lane(
    model: str,
    name: str,
    limit: int | None,
    weight: float | None,
    limit_bytes: int | None,
    most_tokens: int | None,
    kind: str | None,
    as_json: bool,
) -> None:
    """Change what LANE of MODEL may hold in requests, bytes or prompt tokens, its weight, its kind, or some of it."""
    from headrace.redis.access import connected

    from . import lane as command

    with connected(os.environ) as client:
        bounds = command.Bounds(limit_bytes, most_tokens, kind)
        sys.exit(command.set_limit(client, model, name, limit, weight, bounds, as_json))


@lane.command("set")
@click.argument("model")
@click.argument("name", metavar="LANE")
@click.option("--limit", type=int, help="Requests it may hold, waiting and running; 2048 for a new lane.")
@click.option("--weight", type=float, help="Its share while lanes compete; 1 for a new lane.")
@_bytes_option
@_tokens_option
@_kind_option
@as_json_option
def set_lane(
    model: str,
    name: str,
    limit: int | None,
    weight: float | None,
    limit_bytes: int | None,
    most_tokens: int | None,
    kind: str | None,
    as_json: bool,
) -> None:
    """Create LANE of MODEL, or change the one there is; what you do not name stays as it is."""
    from headrace.redis.access import connected

    from . import lane as command

    with connected(os.environ) as client:
        bounds = command.Bounds(limit_bytes, most_tokens, kind)
        sys.exit(command.put(client, model, name, limit, weight, bounds, as_json))


@lane.command("pause")
@click.argument("model")
@click.argument("name", metavar="LANE")
@as_json_option
def pause_lane(model: str, name: str, as_json: bool) -> None:
    """Stop the consumers of MODEL from claiming requests of LANE; front ends accept them up to its limit."""
    _pause(model, name, True, as_json)


@lane.command("resume")
@click.argument("model")
@click.argument("name", metavar="LANE")
@as_json_option
def resume_lane(model: str, name: str, as_json: bool) -> None:
    """End the pause of LANE of MODEL."""
    _pause(model, name, False, as_json)


def _pause(model: str, name: str, paused: bool, as_json: bool) -> None:
    from headrace.redis.access import connected

    from . import lane as command

    with connected(os.environ) as client:
        sys.exit(command.pause(client, model, name, paused, as_json))


@lane.command("empty")
@click.argument("model")
@click.argument("name", metavar="LANE")
@yes_option
@as_json_option
def empty_lane(model: str, name: str, yes: bool, as_json: bool) -> None:
    """Drop all requests of LANE of MODEL, waiting and running. Clients that wait hear of it at their deadline."""
    from headrace.redis.access import connected

    from . import lane as command

    with connected(os.environ) as client:
        sys.exit(command.empty(client, model, name, yes, as_json))


@lane.command("repair")
@click.argument("model")
@click.argument("name", metavar="LANE")
@click.option("--keep", type=click.IntRange(0), help="Put back so many, the oldest; otherwise as many as its limit.")
@yes_option
@as_json_option
def repair_lane(model: str, name: str, keep: int | None, yes: bool, as_json: bool) -> None:
    """Recreate a spoilt LANE of MODEL and put back what is in it.

    For a lane that accepts no more because a producer wrote the highest id, or flooded it past its limit.
    """
    from headrace.redis.access import connected

    from . import lane as command

    with connected(os.environ) as client:
        sys.exit(command.repair(client, model, name, keep, yes, as_json))


@lane.command("remove")
@click.argument("model")
@click.argument("name", metavar="LANE")
@yes_option
@as_json_option
def remove_lane(model: str, name: str, yes: bool, as_json: bool) -> None:
    """Delete LANE of MODEL, with the requests and dead letters in it."""
    from headrace.redis.access import connected

    from . import lane as command

    with connected(os.environ) as client:
        sys.exit(command.remove(client, model, name, yes, as_json))


@lane.command("guard")
@click.option("--times", type=click.FloatRange(1.0), default=2.0, show_default=True, help="How many times its limit.")
@duration_option("--interval", "interval_s", 1.0, "Between two checks.", 0.05, 3600)
@click.option(
    "--memory-mib",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="MiB of memory that a lane may take.",
)
@click.option("--once", is_flag=True, help="Check once; the exit code is 1 if a lane is flooded.")
@as_json_option
def guard_lanes(times: float, interval_s: float, memory_mib: int, once: bool, as_json: bool) -> None:
    """Watch all lanes, and switch off the user of one that is flooded past its limit. Run it as the administrator.

    It survives outages of Redis. With --json each flood is one line.
    """
    from headrace.redis.access import connected

    from . import memory_guard as command

    bounds = command.Bounds(times, memory_mib * command.MEBIBYTE)
    with connected(os.environ) as client:
        sys.exit(command.run(client, bounds, interval_s, once, as_json))

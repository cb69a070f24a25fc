"""The operator's commands on the command line. What they do is in the modules they import when called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .acl_commands import acl
from .archives.commands import import_mar
from .client_commands import batch, predict, request, top
from .dlq_commands import dlq
from .key_commands import keys
from .lanes.commands import lane
from .options import Duration, as_json_option, duration_option
from .project_commands import completion, config, new
from .webhook_commands import webhooks

if TYPE_CHECKING:
    from shared.state.desired_state import Serving

Command = Callable[..., Any]

# The modules of the commands are imported inside them: `up` needs no Redis client.


@click.command()
@duration_option("--interval", "interval_s", 1.0, "Over which to measure rates; 0 omits them.", 0, 3600)
@click.option(
    "--watch",
    "watch_s",
    type=Duration(0.1, 3600),
    is_flag=False,
    flag_value="2s",
    metavar="[DURATION]",
    help="Show it again every 2s, or as often as you say, until Ctrl-C.",
)
@click.option("--tuning", is_flag=True, help="Also what was tried to find the fastest runtime of each model.")
@as_json_option
def status(interval_s: float, watch_s: float | None, tuning: bool, as_json: bool) -> None:
    """Show models, workers, what runs them, lanes, what waits in them and how fast it moves.

    With --watch it survives outages of Redis, and --json prints a line each time.
    """
    from .operate import status as command
    from .operate import watch
    from .redis.access import connected

    with connected(os.environ) as client:
        if watch_s is None:
            sys.exit(command.run(client, interval_s, as_json, tuning))
        view = command.View(client, tuning, as_json)
        sys.exit(watch.run(view.show, watch_s, as_json))


@click.command()
@as_json_option
def models(as_json: bool) -> None:
    """List the models: what each does, how many workers it has, and what runs it."""
    from .operate import inventory as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.show_models(client, as_json))


@click.command()
@click.argument("model", required=False)
@as_json_option
def workers(model: str | None, as_json: bool) -> None:
    """List the live workers, of all models or of MODEL."""
    from .operate import inventory as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.show_workers(client, model, as_json))


@click.command()
@as_json_option
def doctor(as_json: bool) -> None:
    """Check server, functions, lanes, consumers and versions, and say what to do about problems.

    Exit codes: 0 nothing, 1 a problem was found or Redis is away, 2 usage.
    """
    from shared.settings import Settings

    from .operate import doctor as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.run(client, Settings.from_env(os.environ).lease_ms, as_json))


@click.command()
@click.argument("part", type=click.Choice(["front-end", "consumer"]), default="front-end")
@click.option(
    "--index", type=click.IntRange(0), help="Number of the consumer, or of one of several front ends, from 0."
)
@click.option("--port", type=click.IntRange(1, 65535), help="Ask this port instead of the settings' one.")
@click.option("--alive", is_flag=True, help="Ask only whether the process runs and answers.")
@duration_option("--timeout", "timeout_s", 3.0, "For all of it.", 0.01, 600)
@as_json_option
def probe(part: str, index: int | None, port: int | None, alive: bool, timeout_s: float, as_json: bool) -> None:
    """Check whether the front end or the consumer on this machine is ready, without a proxy.

    A front end is ready when a model is; a consumer, when it has loaded its model and serves it. Of several front ends
    on one port any one answers; --index checks a certain one, on its metrics port.

    Exit codes: 0 ready, 1 not ready, 2 usage, 3 no answer in time.
    """
    from shared.settings import Settings, SettingsError

    from .operate import probe as command
    from .output import print_json

    try:
        asked = command.question(Settings.from_env(os.environ), part, index, port, alive)
    except SettingsError as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(2)
    code, sentence = command.run(asked, timeout_s)
    if as_json:
        print_json({"part": part, "ready": code == 0, "exit_code": code, "sentence": sentence})
    else:
        click.echo(sentence, err=code != 0)
    sys.exit(code)


def _timeout_option(default_s: float) -> Callable[[Command], Command]:
    return duration_option("--timeout", "timeout_s", default_s, "How long to wait at most.")


@click.command()
@click.argument("model")
@_timeout_option(30.0)
@as_json_option
def pause(model: str, timeout_s: float, as_json: bool) -> None:
    """Stop the consumers of MODEL from claiming requests; front ends still accept them up to the lane's limit.

    Waits until every live worker confirms; they finish what they have claimed.

    Exit codes: 0 done, 1 Redis is away, 2 usage or unknown model, 3 timeout; the pause stays in force.
    """
    from shared.state.desired_state import Serving

    _serve_as(model, Serving.PAUSED, timeout_s, as_json)


@click.command()
@click.argument("model")
@_timeout_option(30.0)
@as_json_option
def resume(model: str, timeout_s: float, as_json: bool) -> None:
    """End a pause or a drain of MODEL.

    Exit codes: as for pause.
    """
    from shared.state.desired_state import Serving

    _serve_as(model, Serving.OPEN, timeout_s, as_json)


def _serve_as(model: str, serving: Serving, timeout_s: float, as_json: bool) -> None:
    from .operate import serving as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.run(client, model, serving, timeout_s, as_json))


@click.command()
@click.argument("model")
@_timeout_option(300.0)
@as_json_option
def drain(model: str, timeout_s: float, as_json: bool) -> None:
    """Make front ends refuse new requests for MODEL, and wait until its lanes are empty.

    Front ends refuse with 503 until `resume`.

    Exit codes: 0 nothing is left, 1 Redis is away or another command ended the drain, 2 usage or unknown model,
    3 timeout; front ends still refuse.
    """
    from .operate import serving as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.drain(client, model, timeout_s, as_json))


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def loadgen(arguments: tuple[str, ...]) -> None:
    """Measure a service and hold it against budgets: the load generator's wait, run, sweep, compare, gate, report."""
    from importlib.util import find_spec

    from shared.modules import full_name

    if find_spec("httptools") is None:
        click.echo("headrace: the load generator is not installed: pip install 'headrace[loadgen]'.", err=True)
        sys.exit(2)
    # In this process's place, so that its signals and exit codes are those of the load generator.
    os.execv(sys.executable, [sys.executable, "-m", full_name("loadgen"), *arguments])


COMMANDS = (
    status,
    models,
    workers,
    doctor,
    probe,
    top,
    predict,
    request,
    batch,
    loadgen,
    pause,
    resume,
    drain,
    lane,
    dlq,
    webhooks,
    keys,
    acl,
    import_mar,
    new,
    config,
    completion,
)

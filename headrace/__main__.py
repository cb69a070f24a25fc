"""``python -m headrace``: the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from shared.modules import COMMAND
from shared.process import standard_streams
from shared.setting_values import model_names, redis_address, whole
from shared.settings import PRECISIONS, SettingsError

from .exit_codes import EXIT_FAILED, EXIT_USAGE
from .operations import COMMANDS
from .options import as_json_option, duration_option, wait_option
from .project_commands import COMPLETE_VARIABLE


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    # Imported here: reading metadata costs health checks more than all else.
    from .checking import installation

    click.echo(installation.described())
    if (wrong := installation.own_problem()) is not None:
        click.echo(f"headrace: {wrong}", err=True)
        context.exit(EXIT_USAGE)
    context.exit()


def _use_redis(_: click.Context, __: click.Parameter, url: str | None) -> None:
    """Have every setting of this process name this Redis."""
    if url is None:
        return
    try:
        os.environ["HEADRACE_REDIS_URL"] = redis_address("--redis", url)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.option(
    "--redis",
    metavar="URL",
    expose_value=False,
    callback=_use_redis,
    help="Address of Redis, instead of that in HEADRACE_REDIS_URL. Other users of the machine can see it.",
)
def main() -> None:
    """Start and inspect a Headrace stack. Settings are HEADRACE_ environment variables: docs/settings.md.

    docs/cli.md has all commands and exit codes.
    """


@main.command()
@click.option(
    "--model",
    "own",
    multiple=True,
    metavar="[NAME=]FILE.py:CLASS",
    help="Serve a model of your own, which needs no table in models.toml; may be repeated.",
)
@click.option("--models", metavar="NAME,...", help="Models to serve, instead of those in HEADRACE_MODELS.")
@click.option("--port", metavar="PORT", help="Port of the front end, instead of HEADRACE_PORT; 0 for a free one.")
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    help="Write the front end's address here once a model answers, and remove the file at the end.",
)
def up(own: tuple[str, ...], models: str | None, port: str | None, ready_file: Path | None) -> None:
    """Start Redis, the consumers and the front end, and keep them running until Ctrl-C.

    Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 Redis or the front end kept dying, 2 a wrong setting, a missing
    model or a port in use; that of Redis or the front end if one died before the stack was ready.
    """
    # Imported here: the other commands need none of it.
    from .checking import installation
    from .stack.own_models import with_models
    from .stack.up import up as run_up

    try:
        if (wrong := installation.own_problem()) is not None:
            raise SettingsError(wrong)
        environment = with_models(own, {**os.environ, **_settings(models, port)})
    except SettingsError as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(EXIT_USAGE)
    sys.exit(run_up(environment, ready_path=ready_file))


def _settings(models: str | None, port: str | None) -> dict[str, str]:
    """Return what options of ``up`` say as settings, checked under their own names."""
    found: dict[str, str] = {}
    if models is not None:
        found["HEADRACE_MODELS"] = ",".join(model_names("--models", models))
    if port is not None:
        found["HEADRACE_PORT"] = str(whole("--port", port, 0, 65535))
    return found


@main.command()
@click.argument("model")
@click.argument("value", metavar="[PRECISION|default]", required=False)
@duration_option("--timeout", "timeout_s", 300.0, "How long to wait for every worker.")
@as_json_option
def precision(model: str, value: str | None, timeout_s: float, as_json: bool) -> None:
    """Show the precision of MODEL, or switch every worker of it, one after the other.

    No request is lost. A worker whose outputs would be too far from fp32's refuses and continues as before. Workers
    that start later use this precision too, until you set `default`: what environment and models.toml say.

    Exit codes: 0 done, 1 refused by a worker or Redis is away, 2 usage or unknown model, 3 timeout.
    """
    # Imported here: `up` needs no Redis client.
    from .operate import precision as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.run(client, model, value, timeout_s, as_json))


@main.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--again", is_flag=True, help="Search although there is a result.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Instead of that of the environment and the models file, as `headrace precision` may set it.",
)
@as_json_option
def tune(models: tuple[str, ...], again: bool, precision: str | None, as_json: bool) -> None:
    """Find the fastest runtime of each MODEL on this machine ahead of time, and store it for its consumers.

    Uses the threads that `headrace up` gives a consumer of the model here. Needs no Redis.

    Exit codes: 0 found, 1 the result cannot be stored, 2 a wrong setting or a model that has no runtime to choose,
    69 a model cannot be loaded, 130 interrupted. With several models it is that of the first one that failed.
    """
    # Imported here: `up` does not need it.
    from .operate import tune as command

    sys.exit(command.run(os.environ, models, again, precision, as_json))


@main.group()
def functions() -> None:
    """The Redis functions that front ends and consumers call."""


@functions.command()
@wait_option
@as_json_option
def load(wait_s: float, as_json: bool) -> None:
    """Load the functions into the server at HEADRACE_REDIS_URL, replacing older ones; newer ones stay."""
    # Imported here: `up` needs no Redis client.
    from shared.redis import library

    from .output import print_json
    from .redis.access import connected

    with connected(os.environ, "The functions could not be loaded", named=True, wait_s=wait_s) as client:
        is_loaded = library.load(client)
    if as_json:
        print_json({"loaded": list(library.names()) if is_loaded else []})
    elif is_loaded:
        click.echo("headrace: the functions are loaded.")
    else:
        click.echo("headrace: the server has the functions of a newer version, which stay.")


for one in COMMANDS:
    main.add_command(one)


def run() -> None:
    """Run the command of this process's arguments.

    Output may get lost: long-running commands continue, the others report it at their end.
    """
    command = without_options(sys.argv[1:])
    goes_on = command[:1] == ["up"] or command[:2] == ["lane", "guard"]
    standard_streams.secure(patient=not goes_on)
    try:
        main(prog_name=COMMAND, complete_var=COMPLETE_VARIABLE)
    except SystemExit as end:
        lost = None if goes_on else standard_streams.lost_output()
        if lost is not None and not end.code:
            click.echo(f"headrace: {lost}", err=True)
            sys.exit(EXIT_FAILED)
        raise


def without_options(arguments: list[str]) -> list[str]:
    """Return the command and what follows: without the options that stand before it."""
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[2 if arguments[0] == "--redis" else 1 :]
    return arguments


if __name__ == "__main__":
    run()

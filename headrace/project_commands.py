"""Commands that need no stack on the command line: `new`, `config`, `completion`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from .exit_codes import EXIT_FAILED, EXIT_USAGE
from .options import as_json_option

COMPLETE_VARIABLE = "_HEADRACE_COMPLETE"
"""With it in its environment the command says how its arguments can go on; click's way."""


@click.command()
@click.argument("place", metavar="NAME", type=click.Path(path_type=Path))
def new(place: Path) -> None:
    """Write a project into the folder NAME: a model of your own, its test, and a README.

    Exit codes: 0 done, 2 the name is none, or there is something already.
    """
    from .projects import new as command

    place = Path(os.path.normpath(place))
    try:
        written = command.write(place)
    except command.ProjectError as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(EXIT_USAGE)
    for path in written:
        click.echo(f"  {path}")
    click.echo("Test it, serve it, ask it:")
    for step in command.steps_of(place, find_spec("pytest") is not None):
        click.echo(f"  {step}")


@click.group()
def config() -> None:
    """Settings and the models file."""


@config.command("check")
@as_json_option
def check_config(as_json: bool) -> None:
    """Read settings and models file as every part does, and say each problem in a sentence. Serves and loads nothing.

    The code of your own models is imported, as a consumer does it.

    Exit codes: 0 all can be used, 2 something cannot.
    """
    from .checking import consumer_check, installation
    from .checking import settings_check as command
    from .output import print_json

    found, unknown = command.problems(os.environ), None
    found += [wrong] if (wrong := installation.own_problem()) is not None else []
    if not found:
        found, unknown = consumer_check.problems(os.environ)
    if as_json:
        print_json({"problems": found, "not_checked": unknown})
    elif not found:
        click.echo(f"headrace: all is well: {command.described(os.environ)}.")
    for sentence in [] if as_json else [*found, *filter(None, [unknown])]:
        click.echo(f"headrace: {sentence}", err=True)
    sys.exit(EXIT_USAGE if found else 0)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete the commands and options of `headrace`.

    For bash: eval "$(headrace completion bash)" in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        click.echo(f"headrace: nothing completes {shell} here.", err=True)
        sys.exit(EXIT_FAILED)
    click.echo(found(context.find_root().command, {}, "headrace", COMPLETE_VARIABLE).source())

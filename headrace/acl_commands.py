"""`headrace acl` on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import click

from .options import as_json_option, wait_option


@click.group()
def acl() -> None:
    """Redis ACL rules, one user for each role."""


producer_option = click.option(
    "--producer",
    "producers",
    type=(str, str, str),
    metavar="USER MODEL LANE",
    multiple=True,
    help="Also a direct producer that may use this lane only.",
)


database_option = click.option(
    "--database",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default=True,
    help="Number of the database that HEADRACE_REDIS_URL names; users may choose no other.",
)


console_option = click.option(
    "--console",
    type=click.Choice(["off", "read", "operate"]),
    help="What the console of front ends may do with dead letters and lanes; otherwise as HEADRACE_CONSOLE says, and "
    "operate where that leaves it open.",
)


def _console(given: str | None) -> str:
    """Return what the console of front ends may do: as given, else as it is set where this command runs."""
    named = given or os.environ.get("HEADRACE_CONSOLE", "")
    return named if named in ("off", "read") else "operate"


@acl.command("print")
@producer_option
@database_option
@click.option("--model", default="*", help="Let the roles use the keys of this model only.")
@console_option
@as_json_option
def print_rules(
    producers: tuple[tuple[str, str, str], ...], database: int, model: str, console: str | None, as_json: bool
) -> None:
    """Print the rules. These users cannot log in until you give each a password."""
    from .exit_codes import EXIT_USAGE
    from .output import print_json
    from .redis import acl as rules
    from .redis.access import end

    try:
        lines = [rules.rule(role, "resetpass", model, database, _console(console)) for role in rules.ROLES]
        lines += [rules.producer_rule(*producer, "resetpass", database) for producer in producers]
    except ValueError as error:
        end(str(error), EXIT_USAGE)
    if as_json:
        print_json([{"user": line.split()[1], "rule": line} for line in lines])
    else:
        click.echo("\n".join(lines))


@acl.command("write")
@click.argument("folder", type=click.Path(file_okay=False))
@producer_option
@database_option
@click.option(
    "--password",
    "others",
    metavar="NAME",
    multiple=True,
    help="Also a password in FOLDER/NAME for a program other than the Redis users; NAME_PASSWORD sets it.",
)
@console_option
@as_json_option
def write_rules(
    folder: str,
    producers: tuple[tuple[str, str, str], ...],
    database: int,
    others: tuple[str, ...],
    console: str | None,
    as_json: bool,
) -> None:
    """Write users and their passwords into FOLDER, for a server that reads them with `aclfile`.

    FOLDER/server gets the rules with hashed passwords, and FOLDER/USER the password of each. A password is that of the
    variable REDIS_PASSWORD_USER, else the one that is there, else a random one. None is printed.
    """
    from .exit_codes import EXIT_USAGE
    from .output import print_json
    from .redis import users
    from .redis.access import end

    try:
        written = users.write(Path(folder), os.environ, producers, database, others, _console(console))
    except (OSError, ValueError) as error:
        end(f"The users could not be written: {error}", EXIT_USAGE)
    if as_json:
        print_json({"folder": folder, "users": written})
    else:
        click.echo("headrace: the users are written.")


@acl.command("load")
@wait_option
@as_json_option
def load_rules(wait_s: float, as_json: bool) -> None:
    """Make the server at HEADRACE_REDIS_URL read its file of users again."""
    from .output import print_json
    from .redis.access import connected

    with connected(os.environ, "The users could not be loaded", named=True, wait_s=wait_s) as client:
        client.acl_load()
    if as_json:
        print_json({"loaded": "users"})
    else:
        click.echo("headrace: the users are loaded.")

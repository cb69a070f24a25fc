"""`headrace keys` on the command line."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from .options import as_json_option


@click.group()
def keys() -> None:
    """API keys: make, list and revoke them."""


@keys.command("new")
@click.argument("name")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add it to this file, the one that HEADRACE_KEYS_FILE names.",
)
@click.option("--console", type=click.Choice(["read", "operate"]), help="Give it this role on the console.")
@as_json_option
def new_key(name: str, path: Path | None, console: str | None, as_json: bool) -> None:
    """Make an API key for NAME and print it. Only its hash is stored.

    Without --file what belongs into the file goes to standard error.

    Exit codes: 0 done, 2 the name or the file cannot be used; the file is as it was.
    """
    from shared import api_keys
    from shared.files import FileRefused
    from shared.names import check_name

    from .exit_codes import EXIT_USAGE
    from .operate import key_file
    from .output import print_json
    from .redis.access import end

    key = api_keys.new_key()
    try:
        check_name(name, "The name")
        if path is not None:
            key_file.add(path, name, key, console)
    except FileRefused as error:
        end(f"{path} cannot be read: {error}.", EXIT_USAGE)
    except ValueError as error:
        end(str(error), EXIT_USAGE)
    except OSError as error:
        end(f"{path} cannot be written: {error.strerror or error}.", EXIT_USAGE)
    if as_json:
        digest = api_keys.digest_of(key.encode()).hex()
        place = None if path is None else str(path)
        print_json({"name": name, "key": key, "sha256": digest, "file": place, "console": console})
        sys.exit()
    told = (
        key_file.entry(name, key, console).rstrip("\n")
        if path is None
        else f"headrace: {name} is in {path} now; the key is:"
    )
    click.echo(told, err=True)
    click.echo(key)


_FILE_OPTION = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of keys; otherwise the one that HEADRACE_KEYS_FILE names.",
)


@keys.command("list")
@_FILE_OPTION
@as_json_option
def list_keys(path: Path | None, as_json: bool) -> None:
    """List the keys of the file: names, lanes, limits, when they expire and roles on the console. No hash is shown.

    Exit codes: 0 done, 2 there is no such file, or it cannot be used.
    """
    from shared.files import FileRefused

    from .exit_codes import EXIT_USAGE
    from .operate import key_file
    from .output import print_json, print_table
    from .redis.access import end

    place = _place(path)
    try:
        found = key_file.listed(place)
    except FileRefused as error:
        end(f"{place} cannot be read: {error}.", EXIT_USAGE)
    except ValueError as error:
        end(f"{place} cannot be used. {error}", EXIT_USAGE)
    if as_json:
        records = [
            {
                "name": key.name,
                "lane": key.lane,
                "lanes": list(key.lanes),
                "max_in_flight": key.max_in_flight,
                "expires": _time(key.expires_s),
                "console": key.console,
            }
            for key in found
        ]
        print_json({"file": str(place), "keys": records})
        return
    rows = [
        (key.name, key.lane, str(key.max_in_flight or "-"), _time(key.expires_s) or "-", key.console or "-")
        for key in found
    ]
    print_table(("NAME", "LANE", "MOST IN FLIGHT", "EXPIRES", "CONSOLE"), rows)


@keys.command("revoke")
@click.argument("name")
@_FILE_OPTION
@as_json_option
def revoke_key(name: str, path: Path | None, as_json: bool) -> None:
    """Take the key of NAME out of the file. Front ends refuse it within a second or two.

    The last key of a file stays in it and expires at once, because a file without keys would not be read.

    Exit codes: 0 done, 2 there is no such key, or the file cannot be used; it is as it was.
    """
    from shared.files import FileRefused

    from .exit_codes import EXIT_USAGE
    from .operate import key_file
    from .output import print_json
    from .redis.access import end

    place = _place(path)
    try:
        is_out = key_file.revoke(place, name)
    except FileRefused as error:
        end(f"{place} cannot be read: {error}.", EXIT_USAGE)
    except ValueError as error:
        end(str(error), EXIT_USAGE)
    except OSError as error:
        end(f"{place} cannot be written: {error.strerror or error}.", EXIT_USAGE)
    if as_json:
        print_json({"name": name, "file": str(place), "revoked": True, "in_file": not is_out})
    else:
        done = "is out of the file" if is_out else "was the last key: it stays in the file and has expired"
        click.echo(f"headrace: {name} {done}.")


def _place(path: Path | None) -> Path:
    from shared.settings import Settings, SettingsError

    from .exit_codes import EXIT_USAGE
    from .redis.access import end

    if path is not None:
        return path
    try:
        named = Settings.from_env(os.environ).keys_file
    except SettingsError as error:
        end(str(error), EXIT_USAGE)
    if named is None:
        end("HEADRACE_KEYS_FILE is not set; name the file with --file.", EXIT_USAGE)
    return Path(named)


def _time(expires_s: float | None) -> str | None:
    return None if expires_s is None else datetime.fromtimestamp(expires_s, UTC).isoformat().replace("+00:00", "Z")

"""`headrace keys` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .options import as_json_option


@click.group()
def keys() -> None:
    """Make API keys."""


@keys.command("new")
@click.argument("name")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add it to this file, the one that HEADRACE_KEYS_FILE names.",
)
@as_json_option
def new_key(name: str, path: Path | None, as_json: bool) -> None:
    """Make an API key for NAME and print it. Only its hash is stored.

    Without --file what belongs into the file goes to standard error.

    Exit codes: 0 done, 2 the name or the file cannot be used; the file is as it was.
    """
    from shared import api_keys
    from shared.files import FileRefused
    from shared.names import check_name

    from .operate import key_file
    from .output import print_json
    from .redis.access import EXIT_USAGE, end

    key = api_keys.new_key()
    try:
        check_name(name, "The name")
        if path is not None:
            key_file.add(path, name, key)
    except FileRefused as error:
        end(f"{path} cannot be read: {error}.", EXIT_USAGE)
    except ValueError as error:
        end(str(error), EXIT_USAGE)
    except OSError as error:
        end(f"{path} cannot be written: {error.strerror or error}.", EXIT_USAGE)
    if as_json:
        digest = api_keys.digest_of(key.encode()).hex()
        print_json({"name": name, "key": key, "sha256": digest, "file": None if path is None else str(path)})
        sys.exit()
    told = key_file.entry(name, key).rstrip("\n") if path is None else f"headrace: {name} is in {path} now; the key is:"
    click.echo(told, err=True)
    click.echo(key)

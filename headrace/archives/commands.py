"""``headrace import-mar``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command("import-mar")
@click.argument("source", metavar="FILE.mar|FOLDER", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="Name of the model; that of the archive's manifest if you leave it out.")
@click.option("--write", is_flag=True, help="Append the table to the models file instead of printing it.")
def import_mar(source: Path, name: str | None, write: bool) -> None:
    """Check a model archive of TorchServe, unpack it into the data folder, and print its table for models.toml.

    A folder that is unpacked already stays where it is. Nothing of the archive is run.

    Exit codes: 0 done, 1 the archive is refused, 2 usage or a wrong setting.
    """
    from shared.mar.archive import ArchiveRefused
    from shared.settings import SettingsError

    from . import import_mar as command

    try:
        command.run(source, name, write, os.environ, click.echo, lambda line: click.echo(line, err=True))
    except SettingsError as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(2)
    except ArchiveRefused as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(1)

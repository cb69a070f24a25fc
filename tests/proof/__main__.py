"""The command line: `python -m tests.proof mutants | selftest`."""

from __future__ import annotations

import sys
from typing import Any

import click

from loadgen.ending import raise_on_sigterm
from loadgen.errors import LoadgenError, stop_code
from loadgen.options import DURATION, FILES, PATH, RATE


@click.group()
def cli() -> None:
    """Prove that the gate can fail and that the load generator measures right."""


@cli.command()
@click.option("--duration", "duration_s", type=DURATION, default="3s", show_default=True, help="Of each part.")
@click.option("--rate", type=RATE, default=2000.0, show_default=True, help="At which the lag is measured.")
@click.option("--least-ceiling", type=RATE, default=8000.0, show_default=True, help="Requests/s it must reach.")
@click.option("--most-lag-ms", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True, help="p99.")
def selftest(**options: Any) -> int:
    """Measure the generator itself against a server that does nothing; exit code 20 when it is not fit."""
    from tests.proof.selftest import carry_out

    return carry_out(**options)


@cli.command()
@click.option("--only", multiple=True, help="Name of a mutant; may be given several times. Default: all.")
@click.option("--stack", type=FILES, default=".", show_default=True, help="The checkout to break.")
@click.option("--out", type=PATH, default=".headrace/mutants", show_default=True, help="Folder for what they left.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="How often, to count rates.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first repetition.")
@click.option("--list", "listed", is_flag=True, help="Only list them.")
def mutants(**options: Any) -> int:
    """Prove that the gate can fail: break the service in twelve ways and compare the exit codes."""
    from tests.proof.mutants import carry_out

    raise_on_sigterm()
    return carry_out(**options)


def main() -> int:
    """Run the command line and return the exit code; errors become one sentence on stderr."""
    try:
        code: int = cli.main(standalone_mode=False)
    except LoadgenError as error:
        click.echo(f"proof: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:  # click makes an Abort of a KeyboardInterrupt
        return stop_code(stop.__cause__ or stop)
    return code


if __name__ == "__main__":
    sys.exit(main())

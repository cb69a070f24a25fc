"""The command line: `python -m loadgen wait | run | gate`. Options in, exit code out; the work is done elsewhere.

Imports are made by each command, because `wait` is called by every start of the stack and should cost little.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import click

from .errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_INVALID, EXIT_OK, LoadgenError


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from .scenario import parse_duration_s

        if isinstance(value, float):
            return value
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Rate(click.ParamType[float]):
    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            rate = float(value)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            self.fail(f"{value!r} is not a number of requests per second above 0.", param, ctx)
        return rate


PATH = click.Path(path_type=Path)
FILES = click.Path(path_type=Path, exists=True)
DURATION = _Duration()


@click.group(help="Load generator and performance gate for Headrace.")
def cli() -> None:
    """Group of the commands."""


@cli.command()
@click.option("--url", required=True, help="Address of the front end, such as http://127.0.0.1:8000.")
@click.option("--model", "models", required=True, multiple=True, help="Model to wait for; may be given several times.")
@click.option("--timeout", "timeout_s", type=DURATION, default="120s", show_default=True, help="How long to wait.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Workers that must live.")
@click.option("--payload", type=FILES, help="What to send. Without it: zeros of the size the model's card declares.")
def wait(url: str, models: tuple[str, ...], timeout_s: float, payload: Path | None, workers: int) -> int:
    """Wait until one real inference has succeeded for each model."""
    from .scenario import load_payloads, parse_target
    from .waiting import wait_for

    body = load_payloads((payload,))[0] if payload else None
    wait_for(parse_target(url), models, body, timeout_s, lambda sentence: click.echo(sentence, err=True), workers)
    return EXIT_OK


@cli.command()
@click.option("--url", required=True, help="Address of the front end.")
@click.option("--model", required=True, help="Model to ask.")
@click.option("--payload", "payloads", type=FILES, multiple=True, required=True, help="File or folder; repeatable.")
@click.option("--content-type", help="Of all payloads. Default: from each file's suffix, else octet-stream.")
@click.option("--rate", type=_Rate(), help="Open loop: requests per second.")
@click.option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True)
@click.option("--concurrency", type=click.IntRange(1), help="Closed loop: requests under way at a time.")
@click.option("--duration", "duration_s", type=DURATION, default="30s", show_default=True, help="Measured time.")
@click.option("--warmup", "warmup_s", type=DURATION, help="Time before it that no figure includes. Default: a tenth.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the arrivals and of the payloads' order.")
@click.option("--timeout", "timeout_s", type=DURATION, default="10s", show_default=True, help="Per request.")
@click.option("--max-in-flight", type=click.IntRange(1), default=512, show_default=True, help="Beyond it: dropped.")
@click.option("--connections", type=click.IntRange(1), help="Most connections at a time. Default: --max-in-flight.")
@click.option("--metrics", "metrics_urls", multiple=True, help="Further /metrics to read, such as a consumer's.")
@click.option("--out", type=PATH, required=True, help="Folder for run.json.")
def run(**options: Any) -> int:
    """Send a planned load and write what became of it to OUT/run.json."""
    from .command import measure

    return measure(**options)


@cli.command()
@click.option("--budgets", "budgets_path", type=FILES, default="budgets.toml", show_default=True)
@click.option("--run", "run_path", type=PATH, required=True, help="The run.json to judge.")
@click.option("--github", is_flag=True, help="Write the step summary and annotations of a GitHub job.")
def gate(budgets_path: Path, run_path: Path, github: bool) -> int:
    """Judge a run: exit code 0 pass, 10 over budget, 20 invalid."""
    from .command import judge_file

    return judge_file(budgets_path, run_path, github, os.environ)


def main() -> int:
    """Run the command line and return the exit code; errors become one sentence on stderr."""
    try:
        code = cli.main(standalone_mode=False)
    except LoadgenError as error:
        click.echo(f"loadgen: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("loadgen: interrupted.", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output went away; what was to be said could not be, so this is no success.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        if "gate" not in sys.argv[1:2]:
            raise
        # A gate that breaks must never look like one that passed, nor like a mere budget.
        click.echo(f"loadgen: the gate failed in itself: {type(error).__name__}: {error}", err=True)
        return EXIT_INVALID
    return code if isinstance(code, int) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `python -m loadgen wait | run | sweep | compare | gate | report`.

Options in, exit code out; the work is done elsewhere. Imports are made by each command, because `wait` is called by
every start of the stack and should cost little.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from .ending import raise_on_sigterm
from .errors import EXIT_FAILED, EXIT_INVALID, EXIT_OK, EXIT_USAGE, LoadgenError, stop_code
from .options import DURATION, FILES, NAMES, PATH, RATE, RATES, SETTING, load_options

_PROGRAM = "python -m loadgen" if __package__ == "loadgen" else "headrace loadgen"
"""What one types to get here: where a wheel has it inside `headrace`, the command that hands over."""


@click.group(help="Load generator and performance gate for Headrace.")
def cli() -> None:
    """Group of the commands."""


@cli.command()
@click.option("--url", required=True, help="Address of the front end, such as http://127.0.0.1:8000.")
@click.option("--model", "models", required=True, multiple=True, help="Model to wait for; may be given several times.")
@click.option("--timeout", "timeout_s", type=DURATION, default="120s", show_default=True, help="How long to wait.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Workers that must live.")
@click.option("--payload", type=FILES, help="What to send. Without it: the card's example, else zeros.")
def wait(url: str, models: tuple[str, ...], timeout_s: float, payload: Path | None, workers: int) -> int:
    """Wait until one real inference has succeeded for each model."""
    from .load.waiting import wait_for
    from .scenario import api_key, load_payloads, parse_target

    body = load_payloads((payload,))[0] if payload else None
    target = parse_target(url, api_key(os.environ))
    wait_for(target, models, body, timeout_s, lambda sentence: click.echo(sentence, err=True), workers)
    return EXIT_OK


@cli.command()
@click.option("--url", help="Address of the front end, or redis://host:port to write to the stream directly.")
@click.option("--stack", type=FILES, help="Instead of --url: start the stack of this checkout, and stop it afterwards.")
@click.option("--set", "settings", type=SETTING, multiple=True, help="Setting of that stack, HEADRACE_NAME=VALUE.")
@click.option("--model", required=True, help="Model to ask.")
@click.option("--budgets", "budgets_path", type=FILES, help="Take rate, payload and duration from there.")
@click.option("--scenario", type=click.Choice(["open", "closed", "offline", "ramp"]), help="Checks the options given.")
@click.option("--rate", type=RATE, help="Open loop: requests per second.")
@click.option("--rate-end", type=RATE, help="Ramp: the rate at the end.")
@click.option("--concurrency", type=click.IntRange(1), help="Closed loop: requests in flight at a time.")
@click.option("--requests", type=click.IntRange(1), help="Offline: with --concurrency, end after so many.")
@click.option("--duration", "duration_s", type=DURATION, help="Measured time. Default: the budgets file's, else 30s.")
@click.option("--warmup", "warmup_s", type=DURATION, help="Time before it that no figure includes. Default: a tenth.")
@load_options
@click.option("--metrics", "metrics_urls", multiple=True, help="Further /metrics to read, such as a consumer's.")
@click.option("--out", type=PATH, required=True, help="Folder for run.json.")
def run(scenario: str | None, **options: Any) -> int:
    """Send a planned load and write what became of it to OUT/run.json."""
    from . import command

    raise_on_sigterm()
    names = ("url", "stack", "budgets_path", "metrics_urls", "out")
    other = {name: options.pop(name) for name in names}
    settings = dict(options.pop("settings"))
    load = command.Load(**options)
    if scenario is not None:
        command.check_scenario(scenario, load)
    return command.measure(load, settings=settings, **other)


@cli.command()
@click.option("--url", help="Address of the front end.")
@click.option("--model", help="Model to ask.")
@click.option("--models", type=NAMES, help="Instead: two to four models to compare, such as imagenet,bench-mobilenet.")
@click.option("--stack", type=FILES, help="Of --models, instead of --url: start this checkout for each, one by one.")
@click.option("--set", "settings", type=SETTING, multiple=True, help="Setting of those stacks, HEADRACE_NAME=VALUE.")
@click.option("--cost-per-hour", type=click.FloatRange(0, min_open=True), help="Of the machine that serves.")
@click.option("--metrics", "metrics_urls", multiple=True, help="Consumers' /metrics, for the time of the device.")
@click.option("--budgets", "budgets_path", type=FILES, help="Take payload and latency target from there.")
@click.option("--rates", type=RATES, help="Requests per second to try, such as 5,10,20,40.")
@click.option("--search", is_flag=True, help="Find the highest rate whose latency is within the target.")
@click.option("--mean-ms", type=click.FloatRange(0, min_open=True), help="Target. Default: the budgets file's.")
@click.option("--p95-ms", type=click.FloatRange(0, min_open=True), help="Target. Default: the budgets file's.")
@click.option(
    "--goodput", type=click.FloatRange(0, 1, min_open=True), help="Target of chats: least share of good ones."
)
@click.option("--duration", "duration_s", type=DURATION, default="10s", show_default=True, help="Of each rate.")
@load_options
@click.option("--out", type=PATH, required=True, help="Folder for sweep.json, or for models.json and its page.")
def sweep(model: str | None, models: tuple[str, ...] | None, **options: Any) -> int:
    """Measure latency against rate: one model's curve into OUT/sweep.json, several models' on one page in OUT."""
    from . import model_sweeps, sweeping

    raise_on_sigterm()
    if (model is None) == (models is None):
        raise LoadgenError("Give --model, or --models to compare several.", EXIT_USAGE)
    of_several = {name: options.pop(name) for name in ("stack", "settings", "cost_per_hour")}
    if models is not None:
        settings = dict(of_several.pop("settings"))
        return model_sweeps.carry_out(models=models, settings=settings, **of_several, **options)
    if any(of_several.values()):
        raise LoadgenError("--stack, --set and --cost-per-hour are for --models.", EXIT_USAGE)
    return sweeping.carry_out(model=model or "", **options)


@cli.command()
@click.option("--base", required=True, help="A checkout's folder, git:REVISION, or the address of a running service.")
@click.option("--candidate", default=".", show_default=True, help="Likewise: what is suspected of being slower.")
@click.option("--base-set", type=SETTING, multiple=True, help="Setting the base is started with, HEADRACE_NAME=VALUE.")
@click.option("--candidate-set", type=SETTING, multiple=True, help="The same for the candidate.")
@click.option("--model", required=True, help="Model to ask.")
@click.option("--budgets", "budgets_path", type=FILES, help="Take load, payload and margins from there.")
@click.option("--rate", type=RATE, help="Of the planned part of each window.")
@click.option("--pairs", type=click.IntRange(1), help="Pairs of windows of a batch.")
@click.option("--window", "window_s", type=DURATION, help="Length of the planned part.")
@click.option("--requests", type=click.IntRange(2), help="Requests of the part that is as fast as possible.")
@click.option("--concurrency", type=click.IntRange(1), help="How many of those are in flight at a time.")
@load_options
@click.option("--out", type=PATH, required=True, help="Folder for compare.json.")
def compare(base: str, candidate: str, **options: Any) -> int:
    """Measure two versions or configurations side by side, and write every pair to OUT/compare.json."""
    from . import command

    raise_on_sigterm()
    settings = (dict(options.pop("base_set")), dict(options.pop("candidate_set")))
    shape = (options.pop("requests"), options.pop("concurrency"))
    other = {name: options.pop(name) for name in ("budgets_path", "pairs", "window_s", "out")}
    return command.compare(command.Load(**options), sides=(base, candidate), settings=settings, shape=shape, **other)


@cli.command()
@click.option("--budgets", "budgets_path", type=FILES, default="budgets.toml", show_default=True)
@click.option("--run", "run_path", type=PATH, required=True, help="The run.json to judge.")
@click.option("--compare", "compare_path", type=PATH, help="The compare.json to judge as well.")
@click.option("--no-base", help="Why nothing was compared, in a sentence; it is shown as a warning.")
@click.option("--base-budgets", "base_budgets_path", type=PATH, help="The merge base's budgets: loosening is shown.")
@click.option("--commit", "expected_commit", help="The commit that must have been served.")
@click.option("--report", "report_folder", type=PATH, help="Write report.html and report.md into this folder.")
@click.option("--github", "on_github", is_flag=True, help="Write the step summary and annotations of a GitHub job.")
def gate(**options: Any) -> int:
    """Judge a run: exit code 0 pass, 10 over budget, 11 regression, 12 wrong answers, 20 invalid."""
    from .command import judge_files

    return judge_files(**options, environment=os.environ)


@cli.command()
@click.option("--run", "run_path", type=FILES, help="A run.json.")
@click.option("--compare", "compare_path", type=FILES, help="A compare.json.")
@click.option("--sweep", "sweep_path", type=FILES, help="A sweep.json.")
@click.option("--budgets", "budgets_path", type=FILES, help="Show its budgets in the figures.")
@click.option("--out", type=PATH, required=True, help="Folder for report.html and report.md.")
def report(**options: Any) -> int:
    """Draw results: one self-contained HTML file, and Markdown."""
    from .reports.writing import carry_out

    return carry_out(**options)


def _result_path(arguments: list[str]) -> Path | None:
    """Return where the measurement that these arguments ask for would be written; None when they ask for none."""
    if arguments[:1] not in (["run"], ["compare"], ["sweep"]):
        return None
    for text, following in reversed(list(zip(arguments, [*arguments[1:], ""], strict=True))):
        name, is_whole, value = text.partition("=")
        folder = value if is_whole else following
        if name == "--out" and folder:
            return Path(folder, f"{arguments[0]}.json")
    return None


def _remove_old_result() -> None:
    """Remove an earlier result where options were refused: the gate would take it for that of this measurement."""
    path = _result_path(sys.argv[1:])
    if path is not None:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def main() -> int:
    """Run the command line and return the exit code; errors become one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the encoding lacks is shown by its number
    try:
        code = cli.main(standalone_mode=False, prog_name=_PROGRAM)
    except LoadgenError as error:
        click.echo(f"loadgen: {error}", err=True)
        if error.exit_code == EXIT_USAGE:
            _remove_old_result()
        return error.exit_code
    except click.ClickException as error:
        error.show()
        _remove_old_result()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as stop:  # click makes an Abort of a KeyboardInterrupt
        click.echo("loadgen: interrupted.", err=True)
        return stop_code(stop.__cause__ or stop)
    except BrokenPipeError:
        # The reader of the output went away: output was lost, so this is not a success.
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

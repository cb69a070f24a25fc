"""``headrace up``: checks, then the whole stack under one supervisor."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from headrace import sizing
from headrace.asking.address import base_url
from headrace.checking import extras
from headrace.operate import examples
from headrace.starting.ready_file import ReadyFile
from shared import service_links
from shared.model_config import ModelConfig
from shared.net.exposure import check_exposure
from shared.process.exit_codes import WRONG_CONFIGURATION
from shared.process.machine import this_machine
from shared.redis.embedded import HOST, ServerConfig, answers, find_server, free_port, server_argv
from shared.results.opening import check_store
from shared.settings import Settings, SettingsError

from . import plan, ports, preflight, private_folder
from .child import ChildSpec
from .console import Console
from .failure_board import FailureBoard
from .supervisor import Supervisor


def up(environment: Mapping[str, str], commands: plan.Commands | None = None, ready_path: Path | None = None) -> int:
    """Run the stack that ``environment`` describes until it is stopped; returns the exit code.

    Args:
        commands: the parts' command lines.
        ready_path: a file that holds the front end's address from when the first model answers.

    2 with one sentence on standard error when a setting is wrong, a model is missing or a port is in use.
    """
    try:
        with ExitStack() as held:
            file = None if ready_path is None else ReadyFile(ready_path)
            if file is not None:
                held.callback(file.remove)
            return _run(Settings.from_env(environment), environment, commands or plan.Commands(), file, held)
    except SettingsError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return WRONG_CONFIGURATION


def _run(
    settings: Settings,
    environment: Mapping[str, str],
    commands: plan.Commands,
    ready_file: ReadyFile | None,
    held: ExitStack,
) -> int:
    started_s = time.monotonic()
    check_exposure(settings)
    check_store(settings)
    models = preflight.chosen_models(settings)
    if (lacking := extras.missing_for_up(models, settings.redis_url is None)) is not None:
        raise SettingsError(lacking)
    services: list[ChildSpec] = []
    told = [*filter(None, [service_links.notice(environment)])]
    if settings.redis_url is None:
        data_dir = Path(settings.data_dir)
        held.enter_context(preflight.data_dir_lock(data_dir))
        told += filter(None, [private_folder.tighten(data_dir)])
        config = _server_config(settings, data_dir / "redis")
        services.append(plan.redis_spec(server_argv(find_server(), config), lambda: answers(config.port)))
        redis_url = f"redis://{HOST}:{config.port}/0"
        # Not for a Redis of others: consumers elsewhere would not see this folder.
        settings = replace(settings, results=settings.results or str((data_dir / "results").absolute()))
    else:
        preflight.check_redis(settings.redis_url)
        redis_url = settings.redis_url
    machine = this_machine(environment)
    places = sizing.places(settings, models, machine)
    front_ends = sizing.front_ends(settings, models, machine, places)
    found = ports.choose(settings, len(places), front_ends)
    settings = plan.settle(
        settings,
        redis_url=redis_url,
        port=found.api,
        metrics_port=found.metrics,
        front_ends=front_ends,
        api_metrics_port=found.api_metrics,
        grpc_port=found.grpc,
    )
    services += plan.service_specs(settings, commands, places)
    probes = plan.probe_specs(settings, commands, places)
    console = Console([spec.name for spec in (*services, *probes)])
    console.say(f"headrace: starting {', '.join(spec.name for spec in services)}.")
    for sentence in told:
        console.say(f"headrace: {sentence}")
    inherited = {"GIT_COMMIT": _commit(), **service_links.without(environment)}
    board = FailureBoard(redis_url, lambda sentence: console.say(f"headrace: {sentence}"))
    children = plan.child_environment(settings, inherited)
    supervisor = Supervisor(services, probes, children, os.getcwd(), console, board.show)

    def on_ready() -> None:
        took_s = time.monotonic() - started_s
        if ready_file is not None and not supervisor.report.ready:
            console.say("headrace: no model is ready, so the file of --ready-file waits for the first one.")
        console.say(plan.banner(settings, models, places, took_s, supervisor.report, curl))

    def on_serving() -> None:
        if ready_file is not None:
            _write(ready_file, base_url(settings), console)

    def curl(url: str, name: str, config: ModelConfig) -> str:
        return examples.curl(url, name, config, *examples.asked(settings, name))

    try:
        return asyncio.run(supervisor.run(on_ready, on_serving))
    finally:
        console.close()


def _write(file: ReadyFile, url: str, console: Console) -> None:
    try:
        file.write(url)
    except OSError as error:  # its folder went away; the stack serves all the same
        console.say(f"headrace: --ready-file cannot be written: {error.strerror or error}.")


def _commit() -> str:
    """Return the commit of the checkout this runs from, nothing when it is none."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _server_config(settings: Settings, folder: Path) -> ServerConfig:
    port = settings.redis_port or free_port()
    preflight.check_port("HEADRACE_REDIS_PORT", HOST, port)
    private_folder.make(folder)
    return ServerConfig(folder, port, settings.appendonly, settings.maxmemory_mb, databases=1)

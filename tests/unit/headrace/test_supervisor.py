from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.headrace.stacks import DEAF, SERVE, Running, wait_gone

RUN_STACK = str(Path(__file__).with_name("run_stack.py"))

REDIS: dict[str, Any] = {"name": "redis", "stage": "REDIS", "code": SERVE}
CONSUMER: dict[str, Any] = {"name": "consumer", "stage": "CONSUMER", "code": SERVE}
FRONT_END: dict[str, Any] = {"name": "producer_api", "stage": "FRONT_END", "code": SERVE}
PROBE: dict[str, Any] = {"name": "wait", "stage": "PROBE", "code": ""}


def _stack(*services: dict[str, Any], **rest: Any) -> Running:
    return Running([sys.executable, RUN_STACK, json.dumps({"services": services, **rest})])


def _ready(stack: Running) -> dict[str, int]:
    """Wait until the stack is ready and each service has named its process id; returns these by name."""
    pids: dict[str, int] = {}
    ready = False
    while not ready or len(pids) < 3:
        match = stack.until(r"READY|^(\S+) +\| pid (\d+)")
        if match.group(1):
            pids[match.group(1)] = int(match.group(2))
        else:
            ready = True
    return pids


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_starts_redis_first_and_stops_it_last(number: signal.Signals) -> None:
    with _stack(FRONT_END, CONSUMER, REDIS, probes=[PROBE]) as stack:
        pids = _ready(stack)
        assert pids["redis"] < pids["consumer"] < pids["producer_api"]
        stack.signal(number)
        assert stack.end() == 0
        stopped = [line.split()[0] for line in stack.lines if line.endswith("| stopped")]
        assert stopped == ["producer_api", "consumer", "redis"], stack.output
        wait_gone(list(pids.values()))


def test_nothing_else_starts_before_redis_answers(tmp_path: Path) -> None:
    ready_file = tmp_path / "answers"
    slow = {**REDIS, "code": f"open({str(ready_file)!r}, 'w').close()\n{SERVE}"}
    late = {**CONSUMER, "code": f"import os; print(os.path.exists({str(ready_file)!r}), flush=True)\n{SERVE}"}
    with _stack(late, slow, ready_file=str(ready_file)) as stack:
        assert stack.until(r"consumer +\| (\w+)").group(1) == "True"


def test_a_redis_that_never_answers_ends_the_stack(tmp_path: Path) -> None:
    with _stack(REDIS, CONSUMER, ready_file=str(tmp_path / "never"), ready_limit_s=0.1) as stack:
        assert stack.end() == 1
        assert "redis did not answer within 0.1 s" in stack.output
        assert "consumer |" not in stack.output


def test_a_child_that_dies_early_ends_the_stack_with_its_code_and_last_lines() -> None:
    dies = {**CONSUMER, "code": "for i in range(30): print('line', i)\nraise SystemExit(7)"}
    with _stack(REDIS, dies, FRONT_END, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 7
        start = stack.lines.index("headrace: consumer ended with code 7 before the stack was ready. Its last lines:")
        report = [line for line in stack.lines[start + 1 :] if line.startswith("    line")]
        assert report == [f"    line {number}" for number in range(10, 30)]


def test_a_child_that_is_killed_early_gives_the_code_a_shell_would() -> None:
    killed = {**CONSUMER, "code": "import os; os.kill(os.getpid(), 9)"}
    with _stack(REDIS, killed, FRONT_END, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 137
        assert "It printed nothing." in stack.output


def test_a_child_that_ends_early_without_an_error_is_an_error_all_the_same() -> None:
    with _stack(REDIS, {**CONSUMER, "code": ""}, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 1


def test_a_probe_that_fails_ends_the_stack_with_its_code() -> None:
    with _stack(REDIS, CONSUMER, FRONT_END, probes=[{**PROBE, "code": "raise SystemExit('no answer')"}]) as stack:
        assert stack.end() == 1
        assert "wait ended with code 1" in stack.output
        assert "    no answer" in stack.output


def test_a_program_that_does_not_exist_ends_the_stack() -> None:
    with _stack(REDIS, {**CONSUMER, "argv": ["/no/such/program"]}) as stack:
        assert stack.end() == 1
        assert "consumer cannot be started" in stack.output


def test_ctrl_c_before_the_stack_is_ready_stops_it() -> None:
    with _stack(REDIS, CONSUMER, FRONT_END, probes=[{**PROBE, "code": SERVE}]) as stack:
        stack.until(r"wait +\| pid")
        stack.signal(signal.SIGINT)
        assert stack.end() == 0


def test_a_later_death_is_reported_and_mended() -> None:
    with _stack(REDIS, CONSUMER, FRONT_END) as stack:
        pids = _ready(stack)
        os.kill(pids["consumer"], signal.SIGKILL)
        stack.until(r"consumer ended with code 137; starting it again in 0.01 s")
        again = int(stack.until(r"consumer +\| pid (\d+)").group(1))
        assert again != pids["consumer"]
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0


def test_five_deaths_in_a_minute_end_the_stack(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    fragile = {**CONSUMER, "code": f"import os\nif os.path.exists({str(broken)!r}): os._exit(9)\n{SERVE}"}
    with _stack(REDIS, fragile, FRONT_END) as stack:
        pids = _ready(stack)
        broken.touch()
        os.kill(pids["consumer"], signal.SIGKILL)
        assert stack.end() == 1
        assert stack.output.count("starting it again in") == 4
        assert "consumer ended with code 9, 5 times within 60 s" in stack.output
        wait_gone(list(pids.values()))


def test_a_child_that_ignores_sigterm_is_killed_after_its_limit() -> None:
    with _stack(REDIS, {**CONSUMER, "code": DEAF, "stop_limit_s": 0.2}, FRONT_END) as stack:
        _ready(stack)
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        assert "consumer did not stop in time and is killed" in stack.output


def test_a_second_ctrl_c_hurries() -> None:
    with _stack(REDIS, {**CONSUMER, "code": DEAF, "stop_limit_s": 3600}, FRONT_END) as stack:
        _ready(stack)
        stack.signal(signal.SIGINT)
        stack.until(r"consumer +\| deaf")
        while stack.process.poll() is None:  # one that follows at once counts as the same Ctrl-C
            stack.signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                stack.process.wait(0.1)
        assert stack.end() == 0
        assert "redis        | stopped" in stack.output


def test_one_ctrl_c_that_arrives_twice_is_one() -> None:
    # Were the second signal a hurry, the consumer would be killed while it still has something to do.
    slow = SERVE + "\nsignal.sigtimedwait([signal.SIGUSR1], 0.1)\nprint('ended by itself', flush=True)"
    with _stack(REDIS, {**CONSUMER, "code": slow, "stop_limit_s": 3600}, FRONT_END) as stack:
        _ready(stack)
        stack.signal(signal.SIGTERM)
        stack.signal(signal.SIGINT)
        assert stack.end() == 0
        assert "ended by itself" in stack.output


def test_nothing_is_left_when_the_supervisor_is_killed() -> None:
    # The grandchild has no parent that the kernel would watch on its behalf: the guardian has to find it.
    parent = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-S', '-E', '-c', {SERVE!r}]).wait()"
    with _stack(REDIS, {**CONSUMER, "code": parent}, FRONT_END) as stack:
        pids = _ready(stack)
        stack.signal(signal.SIGKILL)
        wait_gone(list(pids.values()))


def test_what_a_dead_child_leaves_in_its_group_is_killed() -> None:
    parent = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-S', '-E', '-c', {SERVE!r}])\nsys.exit(3)"
    with _stack(REDIS, {**CONSUMER, "code": parent}, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 3


def test_long_lines_and_progress_bars_come_through() -> None:
    noisy = {**CONSUMER, "code": "print('10%\\r20%\\r30%'); print('x' * 100_000, flush=True)\n" + SERVE}
    with _stack(REDIS, noisy, FRONT_END) as stack:
        _ready(stack)
        assert "consumer     | 30%" in stack.output
        assert sum(line.count("x") for line in stack.lines if line.startswith("consumer")) == 100_000

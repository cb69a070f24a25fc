from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import eventually, first, full_pipe
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
        match = stack.until(r"READY|^(\S.*?) +\| pid (\d+)")
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


def test_a_front_end_that_dies_early_ends_the_stack_with_its_code_and_last_lines() -> None:
    dies = {**FRONT_END, "code": "for i in range(30): print('line', i)\nraise SystemExit(7)"}
    with _stack(REDIS, CONSUMER, dies, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 7
        start = stack.lines.index(
            "headrace: producer_api ended with code 7 before the stack was ready. Its last lines:"
        )
        report = [line for line in stack.lines[start + 1 :] if line.startswith("    line")]
        assert report == [f"    line {number}" for number in range(10, 30)]


def test_a_child_that_is_killed_early_gives_the_code_a_shell_would() -> None:
    killed = {**FRONT_END, "code": "import os; os.kill(os.getpid(), 9)"}
    with _stack(REDIS, CONSUMER, killed, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 137
        assert "It printed nothing." in stack.output


def test_a_front_end_that_ends_early_without_an_error_is_an_error_all_the_same() -> None:
    with _stack(REDIS, {**FRONT_END, "code": ""}, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 1


@pytest.mark.parametrize("service", [REDIS, FRONT_END])
def test_without_the_programs_of_redis_or_the_front_end_nothing_starts(service: dict[str, Any]) -> None:
    with _stack({**service, "argv": ["/no/such/program"]}, CONSUMER) as stack:
        assert stack.end() == 1
        assert f"{service['name']} cannot be started" in stack.output


def _report(stack: Running) -> Any:
    """What the stack says of its models once all of them are ready or have failed."""
    return json.loads(stack.until(r"READY (.*)").group(1))


GOOD = {**CONSUMER, "name": "consumer good", "model": "good"}
GOOD_PROBE = {**PROBE, "name": "wait good", "model": "good"}
BAD = {
    **CONSUMER,
    "name": "consumer bad",
    "model": "bad",
    "code": "print('2026-11-30 22:49:30,031 ERROR consumer.worker: no weights')\nraise SystemExit(2)",
}
BAD_PROBE = {**PROBE, "name": "wait bad", "model": "bad", "code": SERVE}


@pytest.mark.parametrize("status", first(2, [0, 1, 2, 69, 70]))
def test_a_model_that_cannot_be_loaded_fails_alone_whatever_its_consumer_ends_with(status: int) -> None:
    bad = {**BAD, "code": f"print('no weights')\nraise SystemExit({status})"}
    with _stack(REDIS, bad, GOOD, FRONT_END, probes=[BAD_PROBE, GOOD_PROBE]) as stack:
        ready, failed = _report(stack)
        assert ready == ["good"]
        assert failed == {"bad": f"consumer bad ended with code {status}. no weights"}
        stack.until(r"^SERVING$")
        pauses = [float(stack.until(r"consumer bad ended.* again in ([\d.]+) s").group(1)) for _ in range(6)]
        assert all(second > first for first, second in pairwise(pauses)), pauses
        assert stack.process.poll() is None
        assert "consumer good ended" not in stack.output
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        stopped = {line.split("|")[0].strip() for line in stack.lines if line.endswith("| stopped")}
        assert stopped == {"consumer good", "producer_api", "redis"}


def test_the_first_failure_of_a_model_is_told_at_once_and_the_stack_is_up_without_any_model() -> None:
    with _stack(REDIS, BAD, FRONT_END, probes=[BAD_PROBE]) as stack:
        said = stack.until(r"headrace: consumer bad ended with code 2; (.*)").group(1)
        assert said == "starting it again in 0.01 s. Everything else runs on. It said last: no weights"
        assert _report(stack) == [[], {"bad": "consumer bad ended with code 2. no weights"}]
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        assert "SERVING" not in stack.lines


def test_a_consumer_whose_program_is_missing_fails_alone() -> None:
    with _stack(REDIS, {**BAD, "argv": ["/no/such/program"]}, GOOD, FRONT_END, probes=[BAD_PROBE, GOOD_PROBE]) as stack:
        ready, failed = _report(stack)
        assert (ready, list(failed)) == (["good"], ["bad"])
        third = r"consumer bad ended with code 127, 3 times in a row"
        assert re.search(third, stack.output) or stack.until(third)  # it may have come before the report


def test_with_one_of_two_consumers_dead_the_start_waits_for_the_other() -> None:
    counts = "import sys; print('workers', sys.argv[-1], flush=True)\nif sys.argv[-1] == '2':\n"
    probe = {**GOOD_PROBE, "code": counts + "".join(f"    {line}\n" for line in SERVE.splitlines()), "workers": 2}
    first, second = {**GOOD, "name": "consumer good 1"}, {**BAD, "name": "consumer good 2", "model": "good"}
    with _stack(REDIS, first, second, FRONT_END, probes=[probe]) as stack:
        assert _report(stack) == [["good"], {}]
        assert "wait good       | workers 1" in stack.output


def test_a_model_that_loads_for_long_holds_up_nobody_and_is_told_when_it_is_ready() -> None:
    slow = {**BAD_PROBE, "code": SERVE + "\nraise SystemExit(0)"}
    with _stack(REDIS, {**BAD, "code": SERVE}, GOOD, FRONT_END, probes=[slow, GOOD_PROBE], patience_s=0.05) as stack:
        pid = int(stack.until(r"wait bad +\| pid (\d+)").group(1))
        if not any(line.startswith("READY") for line in stack.lines):
            assert _report(stack) == [["good"], {}]
        os.kill(pid, signal.SIGTERM)
        stack.until(r"headrace: bad is ready now\.")


def test_a_probe_that_fails_is_told_and_ends_nothing() -> None:
    with _stack(REDIS, CONSUMER, FRONT_END, probes=[{**PROBE, "code": "raise SystemExit('no answer')"}]) as stack:
        assert _report(stack) == [[], {"": "no answer has come from it: no answer"}]
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0


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


def test_five_deaths_of_the_front_end_in_a_minute_end_the_stack(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    fragile = {**FRONT_END, "code": f"import os\nif os.path.exists({str(broken)!r}): os._exit(9)\n{SERVE}"}
    with _stack(REDIS, CONSUMER, fragile) as stack:
        pids = _ready(stack)
        broken.touch()
        os.kill(pids["producer_api"], signal.SIGKILL)
        assert stack.end() == 1
        assert stack.output.count("starting it again in") == 4
        assert "producer_api ended with code 9, 5 times within 60 s" in stack.output
        wait_gone(list(pids.values()))


FRONT_ENDS = [{**FRONT_END, "name": f"producer_api {number}"} for number in (1, 2)]


def _fragile(number: int, broken: Path) -> dict[str, Any]:
    code = f"import os\nif os.path.exists({str(broken)!r}): os._exit(9)\n{SERVE}"
    return {**FRONT_ENDS[number - 1], "code": code}


def test_a_front_end_that_keeps_dying_beside_another_is_tried_on_and_the_other_serves(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with _stack(REDIS, _fragile(1, broken), FRONT_ENDS[1]) as stack:
        pids = _ready(stack)
        broken.touch()
        os.kill(pids["producer_api 1"], signal.SIGKILL)
        stack.until(
            r"headrace: producer_api 1 ended with code 9, 5 times within 60 s; starting it again does not help, "
            r"but another serves; trying it again in 10 s\."
        )
        os.kill(pids["producer_api 2"], 0)
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        stopped = [line.split("|")[0].strip() for line in stack.lines if line.endswith("| stopped")]
        assert stopped == ["producer_api 2", "redis"]


def test_the_stack_ends_once_no_front_end_lives_well(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with _stack(REDIS, _fragile(1, broken), _fragile(2, broken)) as stack:
        pids = _ready(stack)
        broken.touch()
        os.kill(pids["producer_api 1"], signal.SIGKILL)
        stack.until(r"producer_api 1 ended .* but another serves")
        os.kill(pids["producer_api 2"], signal.SIGKILL)
        assert stack.end() == 1
        assert "producer_api 2 ended with code 9, 5 times within 60 s; starting it again does not help, so" in (
            stack.output
        )
        wait_gone(list(pids.values()))


def test_one_of_several_front_ends_that_dies_early_ends_the_stack_as_a_single_one_does() -> None:
    dies = {**FRONT_ENDS[1], "code": "raise SystemExit(7)"}
    with _stack(REDIS, FRONT_ENDS[0], dies, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 7


def test_front_ends_start_side_by_side(tmp_path: Path) -> None:
    """Each is ready only once the other has begun; one after the other they would never be."""
    both = [
        {
            **spec,
            "ready_file": str(tmp_path / str(other)),
            "code": f"open({str(tmp_path / str(number))!r}, 'w').close()\n{SERVE}",
        }
        for spec, number, other in zip(FRONT_ENDS, (1, 2), (2, 1), strict=True)
    ]
    with _stack(REDIS, *both) as stack:
        _ready(stack)
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0


def test_a_consumer_that_keeps_dying_is_trouble_until_its_model_is_loaded_and_it_has_lived_a_while(
    tmp_path: Path,
) -> None:
    broken, loaded = tmp_path / "broken", tmp_path / "loaded"
    code = f"import os\nif os.path.exists({str(broken)!r}): os._exit(9)\n{SERVE}"
    with _stack(REDIS, {**CONSUMER, "code": code, "loaded_file": str(loaded)}, FRONT_END) as stack:
        pids = _ready(stack)
        broken.touch()
        os.kill(pids["consumer"], signal.SIGKILL)
        stack.until(r"CRASHES \['consumer'\]")
        stack.until(r"consumer ended with code 9, 6 times in a row")
        broken.unlink()
        stack.until(r"consumer +\| pid (\d+)")
        assert "consumer runs again" not in stack.output
        loaded.touch()
        stack.until(r"CRASHES \[\]")
        stack.until(r"headrace: consumer runs again.")
        os.kill(pids["redis"], 0)
        os.kill(pids["producer_api"], 0)


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
    # The grandchild has no parent that the kernel would watch on its behalf: the parent watch has to find it.
    parent = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-S', '-E', '-c', {SERVE!r}]).wait()"
    with _stack(REDIS, {**CONSUMER, "code": parent}, FRONT_END) as stack:
        pids = _ready(stack)
        stack.signal(signal.SIGKILL)
        wait_gone(list(pids.values()))


def test_what_a_dead_child_leaves_in_its_group_is_killed() -> None:
    parent = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-S', '-E', '-c', {SERVE!r}])\nsys.exit(3)"
    with _stack(REDIS, {**FRONT_END, "code": parent}, probes=[{**PROBE, "code": SERVE}]) as stack:
        assert stack.end() == 3


def test_helpers_of_a_process_that_is_to_stop_are_left_to_it() -> None:
    parent = """
import os, signal, subprocess
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
helper = subprocess.Popen(["sleep", "600"])  # with SIGTERM blocked too: one that came would stay pending
print("pid", os.getpid(), flush=True)
signal.sigwait([signal.SIGTERM])
with open(f"/proc/{helper.pid}/status") as status:
    pending = next(line.split()[1] for line in status if line.startswith("ShdPnd"))
print("signals for the helper", int(pending, 16), flush=True)
"""
    with _stack(REDIS, {**CONSUMER, "code": parent}, FRONT_END) as stack:
        _ready(stack)
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        assert "signals for the helper 0" in stack.output


def test_long_lines_and_progress_bars_come_through() -> None:
    noisy = {**CONSUMER, "code": "print('10%\\r20%\\r30%'); print('x' * 100_000, flush=True)\n" + SERVE}
    with _stack(REDIS, noisy, FRONT_END) as stack:
        _ready(stack)
        assert "consumer     | 30%" in stack.output
        assert sum(line.count("x") for line in stack.lines if line.startswith("consumer")) == 100_000


@contextmanager
def _stdout(kind: str, tmp_path: Path) -> Iterator[int]:
    """Somewhere to write that takes nothing."""
    if kind == "full pipe":
        with full_pipe() as (_, writing):
            yield writing
    elif kind == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
        yield writing
        os.close(writing)
    else:
        with open("/dev/full", "wb") as full:
            yield full.fileno()


@pytest.mark.parametrize("kind", first(1, ["full pipe", "closed pipe", "full disk"]))
def test_it_works_when_it_cannot_speak(kind: str, tmp_path: Path) -> None:
    # The consumer prints far more than any pipe holds, dies and is started again; all of that must go on.
    lives = tmp_path / "lives"
    talks = f"print('modèle 模型' * 100_000, flush=True)\nopen({str(lives)!r}, 'a').write(f'{{os.getpid()}} ')\n"
    consumer = {**CONSUMER, "code": f"import os\n{talks}{SERVE}"}
    argument = json.dumps({"services": [REDIS, consumer, FRONT_END]})
    with (
        _stdout(kind, tmp_path) as stdout,
        Running([sys.executable, RUN_STACK, argument], {"PYTHONIOENCODING": "ascii"}, stdout) as stack,
    ):
        pids: list[int] = []
        for life in range(1, 4):
            pids = eventually(partial(_pids, lives, life), 40)
            if life < 3:
                os.kill(pids[-1], signal.SIGKILL)
        stack.signal(signal.SIGTERM)
        assert stack.process.wait(30) == 0
        wait_gone(pids)


def _pids(file: Path, count: int) -> list[int]:
    """What processes have written into the file, once there are so many."""
    found = [int(pid) for pid in file.read_text().split(" ")[:-1]] if file.exists() else []
    return found if len(found) >= count else []


def test_a_child_that_never_stops_printing_keeps_nobody_waiting() -> None:
    waits = "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
    waits += "print('pid', os.getpid(), flush=True)\n"
    endless = waits + "signal.sigwait([signal.SIGUSR1])\nwhile True: print('x' * 1000)"
    with _stack(REDIS, {**CONSUMER, "code": endless}, FRONT_END) as stack:
        pids = _ready(stack)
        os.kill(pids["consumer"], signal.SIGUSR1)
        stack.until(r"consumer +\| x")
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        wait_gone(list(pids.values()))

"""Serve first, tune afterwards, with real processes: one search, taken over by all, and nothing lost meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consumer.process_end import descendants
from shared.process.exit_codes import MODEL_CANNOT_LOAD
from tests.children import ROOT, clean_environment
from tests.e2e.runtimes.tuned import (
    SEARCHES,
    SMALL,
    TUNED,
    Load,
    Site,
    end_search,
    is_gone,
    models_file,
    nothing_is_left,
    search_of,
    searching,
    until,
    wait_until,
)
from tests.e2e.stack import Process
from tests.unit.headrace.stacks import Running, own_stack

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


OTHER_MACHINE = {"ONEDNN_MAX_CPU_ISA": "SSE41"}
"""What makes another machine of this one, as far as findings go, with `SLOW_CPU=1` too."""


@pytest.fixture
def site(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Site]:
    """A front end; the consumers are the tests' business."""
    with Site(valkey_url, tmp_path, model_name) as site:
        yield site


@pytest.fixture(scope="module")
def found(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An entry that was made once, for a model called ``made``."""
    made = Site(valkey_url, tmp_path_factory.mktemp("found"), "made")
    made.tune()
    [entry] = made.entries()
    return entry.parent


@pytest.fixture
def tuned(site: Site, found: Path) -> Site:
    """A site for whose model something was found."""
    shutil.copytree(found, site.tuned / found.name.replace("made", site.model))
    return site


def told(processes: list[Process], text: str) -> int:
    return sum(text in line for process in processes for line in process.lines)


def test_a_cold_start_serves_in_torch_and_all_take_over_what_one_search_finds_under_load(site: Site) -> None:
    consumers = [site.begin(), site.begin()]
    for consumer in consumers:
        until(consumer, "Ready: ")
        assert told([consumer], TUNED) == 0
    wait_until(lambda: set(site.runs()) == {("torch", "fp32", "4")})
    site.stack.wait(site.model)
    with Load(site).running() as load:
        load.some_more()
        wait_until(lambda: sum(site.runs().values()) == 2 and all(run[0] == "onnxruntime" for run in site.runs()))
        load.some_more()
    assert len(site.runs()) == 1  # the same runtime, precision and preferred batch
    assert told(consumers, SEARCHES) == 1
    [entry] = site.entries()
    assert json.loads(entry.read_bytes())["finding"]["searched_s"] < 60.0
    assert site.half_made() == []
    wait_until(lambda: not any(searching(consumer.popen.pid) for consumer in consumers))
    wait_until(lambda: site.card()["runtime"] == "onnxruntime")
    wait_until(lambda: nothing_is_left(site))
    assert [consumer.terminate() for consumer in consumers] == [0, 0]


def resident_mib(process: Process) -> float:
    lines = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def test_the_next_start_loads_no_torch_and_searches_no_more(tuned: Site) -> None:
    consumer = tuned.start()
    tuned.stack.wait(tuned.model)
    until(consumer, TUNED)
    loaded = Path(f"/proc/{consumer.popen.pid}/maps").read_text()
    assert "libtorch" not in loaded
    assert "onnxruntime" in loaded
    assert resident_mib(consumer) <= 400
    assert not searching(consumer.popen.pid)
    [(run, count)] = tuned.runs().items()
    assert (run[:2], count) == (("onnxruntime", "fp32"), 1)
    assert tuned.card()["tuning"]["state"] == "tuned"


@pytest.mark.soak
def test_off_searches_nothing_but_takes_over_what_somebody_else_finds(site: Site) -> None:
    consumer = site.start(TUNE="off")
    assert "HEADRACE_TUNE is off" in site.card()["tuning"]["reason"]
    with Load(site, threads=1).running() as load:
        load.some_more()
        assert (searching(consumer.popen.pid), site.entries()) == ([], [])
        site.tune()
        until(consumer, TUNED)
        load.some_more()
    wait_until(lambda: site.card()["runtime"] == "onnxruntime")


@pytest.mark.soak  # one that is ended while it searches first is below
def test_first_serves_nothing_before_it_has_searched(site: Site) -> None:
    consumer = site.start(TUNE="first")
    lines = consumer.text()
    assert lines.index(SEARCHES) < lines.index(TUNED) < lines.index("Ready: ")
    assert site.card()["runtime"] == "onnxruntime"


@pytest.mark.parametrize(
    "number", [pytest.param(one, marks=pytest.mark.soak) for one in (signal.SIGTERM, signal.SIGINT)] + [signal.SIGKILL]
)
def test_a_consumer_that_searches_first_and_is_ended_takes_the_search_along(site: Site, number: signal.Signals) -> None:
    consumer = site.begin(TUNE="first")
    search = search_of(consumer)
    consumer.signal(number)
    assert consumer.popen.wait(60) == (-number if number is signal.SIGKILL else 0)
    wait_until(lambda: is_gone(search))
    assert site.are_whole()
    assert number is signal.SIGKILL or told([consumer], "ERROR") == 0


@pytest.mark.soak  # it takes the search along while it searches first, too
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_consumer_that_is_ended_while_it_serves_takes_the_search_along(site: Site, number: signal.Signals) -> None:
    consumer = site.start()
    search = search_of(consumer)
    consumer.signal(number)
    assert consumer.popen.wait(60) == (-number if number is signal.SIGKILL else 0)
    wait_until(lambda: is_gone(search))
    assert site.are_whole()
    # A search that was asked to end tidies up; what a killed one left goes with the next.
    site.tune()
    assert (len(site.entries()), site.half_made()) == (1, [])


@pytest.mark.soak  # torch also serves on when what is found cannot be kept
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_search_that_is_ended_leaves_torch_serving_and_another_consumer_searches(
    site: Site, number: signal.Signals
) -> None:
    first = site.start()
    with Load(site, threads=1).running() as load:
        end_search(search_of(first), number)
        until(first, "The search for the fastest runtime ended ")
        assert site.entries() == []
        assert number is signal.SIGKILL or site.half_made() == []
        load.some_more()
        wait_until(lambda: site.card()["tuning"]["state"] == "refused")
        second = site.start()
        until(second, SEARCHES)
        for consumer in (first, second):
            until(consumer, TUNED)
        load.some_more()
    assert told([first], SEARCHES) == 1  # who failed once does not try for ever
    assert len(site.entries()) == 1
    assert site.half_made() == []


@pytest.mark.soak  # what the store says of it is in tests/unit/consumer/tuning
def test_a_search_whose_result_cannot_be_kept_is_one_sentence_and_is_not_repeated(site: Site) -> None:
    site.tuned.parent.mkdir()
    site.tuned.write_text("in the way")
    consumer = site.start()
    until(consumer, "What is found cannot be kept: ")
    until(consumer, "torch serves, and the next start searches again.")
    site.stack.wait(site.model)
    wait_until(lambda: "ended with status 1" in site.card()["tuning"]["reason"])
    with Load(site, threads=1).running() as load:
        load.some_more()
    assert told([consumer], "What is found cannot be kept") == 1
    assert told([consumer], SEARCHES) == 0
    assert site.tuned.read_text() == "in the way"
    assert consumer.terminate() == 0


def cut(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes()[:-50])


def other_weights(entry: Path) -> None:
    [model] = entry.parent.glob("files-*/model.onnx")
    model.write_bytes(model.read_bytes()[::-1])


def unreadable_but_vouched_for(entry: Path) -> None:
    """A file that is just what the entry says, and that the runtime cannot open."""
    [model] = entry.parent.glob("files-*/model.onnx")
    model.write_bytes(b"no network at all")
    document = json.loads(entry.read_bytes())
    document["files"]["model.onnx"] = {"size": 17, "sha256": hashlib.sha256(b"no network at all").hexdigest()}
    entry.write_text(json.dumps(document))


@pytest.mark.soak  # what a damaged entry is, and that it is replaced, is in tests/unit/consumer/tuning/test_store.py
@pytest.mark.parametrize("harm", [cut, other_weights, unreadable_but_vouched_for])
def test_an_entry_that_is_damaged_while_it_is_served_harms_nobody_and_the_next_start_tunes_anew(
    tuned: Site, harm: Callable[[Path], None]
) -> None:
    serving = tuned.start()
    [entry] = tuned.entries()
    with Load(tuned, threads=1).running() as load:
        harm(entry)
        load.some_more()
        following = tuned.start()
        until(following, "is not used" if harm is not unreadable_but_vouched_for else "cannot be used; torch serves")
        for consumer in (serving, following):
            until(consumer, "draining to take it over")
        wait_until(lambda: {run[0] for run in tuned.runs()} == {"onnxruntime"} and len(tuned.runs()) == 1)
        load.some_more()
    assert told([serving, following], SEARCHES) == 1
    if harm is not unreadable_but_vouched_for:  # that looks all right until it is opened
        assert (told([serving], SEARCHES), told([serving], "draining to take it over")) == (0, 1)


@pytest.mark.soak
def test_two_machines_that_share_a_folder_keep_an_entry_each_and_do_not_wait_for_each_other(tuned: Site) -> None:
    [ours] = tuned.entries()
    with Path(f"{ours.parent}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = tuned.tune(OTHER_MACHINE)
    assert SEARCHES in log
    entries = tuned.entries()
    assert len(entries) == 2
    assert ours in entries
    machines = {json.loads(entry.read_bytes())["circumstances"]["machine"] for entry in entries}
    assert len(machines) == 2


@pytest.mark.soak
def test_a_named_runtime_that_is_not_there_is_a_sentence_and_torch_serves(site: Site) -> None:
    consumer = site.start(RUNTIME="tensorrt")
    site.stack.wait(site.model)
    wait_until(lambda: site.card()["tuning"]["state"] == "refused")
    assert "tensorrt" in site.card()["tuning"]["reason"]
    assert site.card()["runtime"] == "torch"
    assert consumer.terminate() == 0


UNFIT_FOR_INT8 = """
import sys
import torch
from torchvision.models import mobilenet_v3_small
torch.manual_seed(0)
state = mobilenet_v3_small(weights=None).state_dict()
state["classifier.0.weight"][0] *= 1000
state["classifier.3.weight"][:, 0] /= 1000
torch.save(state, sys.argv[1])
"""
"""One channel has a thousand times the values of the others: 256 steps that reach to it leave nothing of them."""


@pytest.fixture
def unfit(site: Site) -> Site:
    """A site whose model cannot be quantised."""
    weights = site.folder / "unfit.pt"
    subprocess.run([sys.executable, "-c", UNFIT_FOR_INT8, str(weights)], check=True, capture_output=True)
    models = site.folder / "models.toml"
    models.write_text(models.read_text().replace('"random"', f'"{weights}"'))
    return site


@pytest.mark.soak
def test_a_named_precision_that_does_not_pass_ends_the_consumer_with_what_was_tried(unfit: Site) -> None:
    site = unfit
    consumer = site.begin(PRECISION="int8")
    assert consumer.popen.wait(250) == MODEL_CANNOT_LOAD, consumer.text()
    last = consumer.output().splitlines()[-1]
    assert "precision int8 is refused: onnxruntime in int8 is not used." in last
    assert "its outputs differ: against fp32 on " in last
    # What was found out is kept: the next start says so at once.
    again = site.begin(PRECISION="int8")
    assert again.popen.wait(60) == MODEL_CANNOT_LOAD
    assert SEARCHES not in again.output()


def command(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an operator's command."""
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        cwd=ROOT,
        env=clean_environment(HEADRACE_REDIS_URL=site.redis_url),
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.soak
def test_a_wish_for_a_precision_while_something_is_taken_over_is_carried_out_afterwards(site: Site) -> None:
    consumers = [site.start(TUNE="off", PRECISION="auto"), site.start(TUNE="off", PRECISION="auto")]
    with Load(site, threads=1).running() as load:
        load.some_more()
        site.tune(settings={"PRECISION": "auto"})
        wait_until(lambda: told(consumers, "draining to take it over") >= 1)
        done = command(site, "precision", site.model, "fp32", "--timeout", "150")
        assert done.returncode == 0, done.stderr
        # Whose turn to take over had not come yet sees the wish first, and has nothing to take over then.
        wait_until(lambda: {one["progress"] for one in site.workers()} == {"done"})
        load.some_more()
    assert {one["precision"] for one in site.workers()} == {"fp32"}
    wait_until(lambda: nothing_is_left(site))


@pytest.mark.soak
def test_a_wish_for_a_precision_that_does_not_pass_is_refused_and_the_other_one_goes_on(unfit: Site) -> None:
    consumer = unfit.start(TUNE="off")
    with Load(unfit, threads=1).running() as load:
        load.some_more()
        done = command(unfit, "precision", unfit.model, "int8", "--timeout", "180")
        load.some_more()
    assert done.returncode == 1, done.stderr
    [worker] = unfit.workers()
    assert worker["precision"] == "fp32"
    assert "its outputs differ: against fp32 on " in worker["refusal"]
    assert told([consumer], "Draining") == 0  # it has served all the time
    again = command(unfit, "precision", unfit.model, "int8")
    assert (again.returncode, told([consumer], SEARCHES)) == (1, 1)
    assert consumer.terminate() == 0


@pytest.mark.soak
def test_what_is_found_while_the_model_is_paused_is_taken_over_and_it_stays_paused(site: Site) -> None:
    consumer = site.start(TUNE="off")
    site.stack.wait(site.model)
    assert command(site, "pause", site.model).returncode == 0
    site.tune()
    until(consumer, TUNED)
    wait_until(lambda: site.runs() and {run[0] for run in site.runs()} == {"onnxruntime"})
    wait_until(lambda: {one["serving"] for one in site.workers()} == {"paused"})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Load(site).one)
        wait_until(lambda: not nothing_is_left(site))
        assert not waiting.done()
        assert command(site, "resume", site.model).returncode == 0
        assert waiting.result().status == 200


@pytest.mark.soak  # a search that is ended with its consumer is above
def test_ctrl_c_while_a_search_runs_leaves_no_process(tmp_path: Path) -> None:
    environment = own_stack(tmp_path, "small") | {
        "HEADRACE_TUNE": "background",
        **{f"HEADRACE_{name}": value for name, value in SMALL.items()},
    }
    models_file(tmp_path, "small")
    with Running([sys.executable, "-m", "headrace", "up"], environment) as stack:
        stack.until(SEARCHES)
        pids = descendants(stack.process.pid)
        [search] = [pid for pid in pids if b"consumer.tune" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        stack.signal(signal.SIGINT)
        assert stack.end() in (0, 130), stack.output
    wait_until(lambda: all(is_gone(pid) for pid in pids))
    assert is_gone(search)
    kept = tmp_path / "data" / "tuned"
    assert not [path for path in kept.iterdir() if path.name.startswith(".")]  # nothing that is half made
    for entry in kept.glob("*/entry.json"):  # a quick search may have come to its end
        assert json.loads(entry.read_bytes())["finding"]["runtime"]
    assert "Traceback" not in stack.output

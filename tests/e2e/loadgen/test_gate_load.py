"""The gate on loads that are not those of its budgets: the commands as processes, against a real server."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from loadgen.comparing.windows import WindowMaker
from loadgen.scenario import Payload, Scenario, parse_target
from tests.e2e.loadgen.bench import Bench, make_bench, only_sentence
from tests.proof.null_server import Behaviour, null_server

BUDGETS = """\
[models.null]
mean_ms = 250
rate_per_s = 400
duration_s = 0.3
payload = ["photo.jpg"]
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, BUDGETS)


@pytest.mark.soak
def test_another_load_than_that_of_the_budgets_proves_nothing(bench: Bench) -> None:
    (bench.folder / "tiny.jpg").write_bytes(b"one pixel")
    with null_server() as server:

        def measured(*arguments: str) -> subprocess.CompletedProcess[str]:
            url = f"http://127.0.0.1:{server.port}"
            done = bench.run(
                "run", "--url", url, "--model", "null", "--budgets", "budgets.toml", "--out", "out", *arguments
            )
            assert done.returncode == 0, done.stderr
            return bench.gate()

        good = measured()
        assert good.returncode == 0, good.stdout
        for arguments, says in (
            (("--arrivals", "constant"), "the run's were constant."),
            (("--payload", "tiny.jpg"), "The run sent tiny.jpg, which is not what the budgets name as payload."),
        ):
            refused = measured(*arguments)
            assert refused.returncode == 20
            assert says in refused.stdout
        assert measured().returncode == 0
    (bench.folder / "photo.jpg").write_bytes(b"another photo")
    assert bench.gate().returncode == 20
    (bench.folder / "photo.jpg").unlink()
    lost = bench.gate()
    assert lost.returncode == 20
    assert "Cannot read the payload" in lost.stdout


def test_an_address_of_metrics_that_nobody_answers_ends_the_run_before_it_begins(bench: Bench) -> None:
    with null_server() as server:
        refused = bench.load(server.port, "--metrics", "http://127.0.0.1:9/metrics")
        assert (refused.returncode, server.inferences) == (1, 0)
    assert only_sentence(refused) == "loadgen: Cannot read http://127.0.0.1:9/metrics."
    assert not bench.result.exists()


def test_a_window_says_how_busy_the_generator_was() -> None:
    with null_server(Behaviour(delay_s=0.02)) as server:
        scenario = Scenario(
            target=parse_target(f"http://127.0.0.1:{server.port}"),
            model="null",
            payloads=(Payload("photo.jpg", "image/jpeg", b"not really a photo"),),
            duration_s=0.1,
            warmup_s=0.0,
            seed=1,
            rate_per_s=200.0,
        )
        window = asyncio.run(WindowMaker(scenario, offline_requests=30, concurrency=10).measure(1))
    assert window is not None
    assert window.ok == window.scheduled == 50
    assert window.cpu_share is not None
    assert 0 < window.cpu_share < 0.8  # it waits for the server most of the time

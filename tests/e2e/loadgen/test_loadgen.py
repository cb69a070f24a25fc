"""The load generator as its users meet it: its commands as processes, against a real server, with their exit codes."""

from __future__ import annotations

import os
import pty
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ROOT
from tests.e2e.loadgen.bench import Bench, make_bench, only_sentence
from tests.helpers import first
from tests.proof.null_server import Behaviour, null_server

BUDGETS = "[models.null]\nmean_ms = 250\np95_ms = 500\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, BUDGETS)


def test_the_three_commands(bench: Bench) -> None:
    with null_server(Behaviour(ready_at=2)) as server:
        url = f"http://127.0.0.1:{server.port}"
        waited = bench.run("wait", "--url", url, "--model", "null", "--timeout", "20s")
        assert (waited.returncode, waited.stdout, waited.stderr) == (0, "", "")
        assert server.inferences == 2
        with null_server() as consumer:
            ran = bench.load(server.port, "--metrics", f"http://127.0.0.1:{consumer.port}/metrics", "--metrics", url)
        assert ran.returncode == 0, ran.stderr
    assert "100 of 100 requests answered" in ran.stdout
    run = bench.written()
    assert run["partial"] is False
    assert run["counts"]["ok"] == run["counts"]["scheduled"] == len(run["requests"]["done_us"]) == 100
    assert run["warmup"] == {"scheduled": 20, "ok": 20, "failed": 0}
    assert run["configuration"]["payloads"][0]["content_type"] == "image/jpeg"
    assert run["service"]["card"]["name"] == "null"
    assert run["service"]["version"] == {"version": "null"}
    assert run["service"]["requests"]["delta"] == run["validity"]["answered"] == 120
    assert [histogram["count"] for histogram in run["service"]["histograms"]] == [
        120
    ]  # the other server had no request
    assert run["commit"] is None  # the folder is no repository
    passed = bench.gate()
    assert passed.returncode == 0, passed.stdout
    assert passed.stdout.endswith("null: PASS\n")
    assert "0 of 100" in passed.stdout


def test_a_slow_service_is_over_budget_and_the_summary_says_so(bench: Bench) -> None:
    (bench.folder / "budgets.toml").write_text("[models.null]\nmean_ms = 5\np95_ms = 10\n")
    with null_server(Behaviour(delay_s=0.02, metrics=False)) as server:
        assert bench.load(server.port).returncode == 0
    assert bench.written()["service"]["requests"] is None
    assert bench.written()["service"]["histograms"] is None
    summary = bench.folder / "summary.md"
    failed = bench.gate(environment={"GITHUB_STEP_SUMMARY": str(summary)})
    assert failed.returncode == 10
    assert "null: OVER BUDGET" in failed.stdout
    assert failed.stdout.count("::error title=Performance gate%3A over budget::") == 3
    assert "Performance gate: null: over budget" in summary.read_text()
    without_summary = bench.gate("--github")
    assert without_summary.returncode == 10
    assert "::error" in without_summary.stdout
    assert "GITHUB_STEP_SUMMARY is not set" in only_sentence(without_summary)
    unwritable = bench.gate(environment={"GITHUB_STEP_SUMMARY": str(bench.folder)})
    assert unwritable.returncode == 10
    assert "cannot write the summary" in only_sentence(unwritable)


def test_errors_make_a_run_invalid(bench: Bench) -> None:
    with null_server(Behaviour(fail_every=20)) as server:
        assert bench.load(server.port).returncode == 0
    assert bench.written()["latency"]["from_planned"]["mean_ms"] is None
    invalid = bench.gate()
    assert invalid.returncode == 20
    assert "x status 503 no_worker" in invalid.stdout


def test_a_run_in_which_nothing_succeeds_fails_and_is_written(bench: Bench) -> None:
    with null_server(Behaviour(fail_every=1)) as server:
        failed = bench.load(server.port)
    assert failed.returncode == 1
    assert "no request succeeded" in failed.stderr
    assert bench.written()["counts"]["http"] == [{"status": 503, "code": "no_worker", "count": 100}]
    assert bench.gate().returncode == 20


def test_nothing_measured_is_always_invalid(bench: Bench) -> None:
    assert bench.gate().returncode == 20
    bench.result.parent.mkdir()
    bench.result.write_text("old")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        unreachable = bench.load(port)
    assert unreachable.returncode == 1
    assert only_sentence(unreachable) == f"loadgen: Cannot reach http://127.0.0.1:{port}: Connection refused."
    assert not bench.result.exists()  # or the gate would judge an earlier run
    bench.result.write_text("")
    empty = bench.gate()
    assert empty.returncode == 20
    assert "is empty" in empty.stdout


@pytest.mark.parametrize("number", first(1, [signal.SIGINT, signal.SIGTERM]))
def test_a_run_that_is_broken_off_keeps_what_it_measured(bench: Bench, number: signal.Signals) -> None:
    with null_server() as server:
        arguments = [*bench.load_arguments(server.port), "--duration", "60s"]
        with subprocess.Popen(
            bench.command(*arguments),
            cwd=bench.folder,
            env=bench.environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("measure")  # one line a second where there is no terminal
            process.send_signal(number)
            assert process.wait(timeout=20) == 128 + number
    run = bench.written()
    assert run["partial"] is True
    assert 0 < run["counts"]["ok"] < 24_000
    assert bench.gate().returncode == 20


def test_a_closed_loop_on_a_terminal_shows_a_table(bench: Bench) -> None:
    ours, theirs = pty.openpty()
    with null_server() as server:
        arguments = bench.load_arguments(server.port)
        rate = arguments.index("--rate")
        arguments[rate : rate + 2] = ["--concurrency", "2"]
        done = subprocess.run(
            bench.command(*arguments, "--duration", "600ms"),
            cwd=bench.folder,
            env=bench.environment(TERM="xterm"),
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=30,
            check=False,
        )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how a terminal says that nobody writes to it any more
        pass
    finally:
        os.close(ours)
    assert done.returncode == 0
    assert b"measuring" in shown
    assert b"Traceback" not in shown
    run = bench.written()
    assert (run["configuration"]["scenario"], run["configuration"]["rate_per_s"]) == ("closed", None)
    assert bench.gate().returncode == 20


def test_a_full_disk_is_one_sentence(bench: Bench) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    with null_server() as server:
        failed = bench.load(server.port, preexec_fn=limit)
    assert failed.returncode == 1
    assert only_sentence(failed) == "loadgen: Cannot write out/run.json: File too large."
    assert list(bench.result.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    first(
        3,
        [
            (("--model", "nul"), 1, "has no model named 'nul'; it serves null."),
            (("--duration", "soon"), 2, "'soon' is not a duration; write 250ms, 5s, 1m30s or 2h."),
            (("--rate", "0"), 2, "'0' is not a number of requests per second above 0."),
            (("--concurrency", "3"), 2, "exactly one of --rate"),
            (("--url", "https://127.0.0.1"), 2, "not a plain http address"),
            (("--payload", "missing.jpg"), 2, "'missing.jpg' does not exist"),
            (("--out", "photo.jpg"), 1, "Cannot write into photo.jpg"),
            (("--burst",), 2, "No such option"),
            (("--scenario", "ramp"), 2, "--scenario ramp takes --rate and --rate-end"),
            (("--budgets", "photo.jpg"), 2, "photo.jpg is not TOML"),
        ],
    ),
)
def test_mistakes_get_one_sentence(bench: Bench, arguments: tuple[str, ...], code: int, says: str) -> None:
    if "--out" not in arguments:
        bench.result.parent.mkdir()
        bench.result.write_text("that of an earlier run")  # the gate must not take it for this one's
    with null_server() as server:
        failed = bench.load(server.port, *arguments)
    assert failed.returncode == code
    assert says in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr
    assert not bench.result.exists()


@pytest.mark.parametrize(
    ("budgets", "says"),
    first(1, [("[models.null]\np59_ms = 5\n", "p59_ms"), ("[models", "is not TOML"), (None, "does not exist")]),
)
def test_budgets_that_cannot_be_used(bench: Bench, budgets: str | None, says: str) -> None:
    path = bench.folder / "budgets.toml"
    path.unlink() if budgets is None else path.write_text(budgets)
    failed = bench.gate()
    assert failed.returncode == 2
    assert says in failed.stderr.splitlines()[-1]


def test_the_shipped_budgets(bench: Bench) -> None:
    (bench.folder / "budgets.toml").write_text((ROOT / "budgets.toml").read_text())
    with null_server() as server:
        bench.load(server.port)
    other_model = bench.gate()
    assert other_model.returncode == 20
    assert (
        "for which there are no budgets (there are: bench-chat, bench-mobilenet, echo, imagenet, minilm)"
        in other_model.stdout
    )


def test_waiting_imports_little(bench: Bench) -> None:
    """`headrace up` calls it at every start."""
    code = (
        "import sys; sys.argv = ['loadgen', 'wait', '--url', sys.argv[1], '--model', 'null']\n"
        "from loadgen.__main__ import main; assert main() == 0\n"
        "print(sorted({'asyncio', 'httptools', 'msgspec', 'numpy', 'rich', 'uvloop'} & set(sys.modules)))"
    )
    with null_server() as server:
        done = subprocess.run(
            [sys.executable, "-c", code, f"http://127.0.0.1:{server.port}"],
            cwd=bench.folder,
            env=bench.environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    assert done.stdout == "[]\n"


def test_a_server_that_stalls_for_a_second_in_ten_shows_it_at_a_constant_rate(bench: Bench) -> None:
    """Coordinated omission: a tenth of the requests were due while it stood still. A closed loop sees one of them."""
    constant = ("--rate", "100", "--arrivals", "constant", "--duration", "10s", "--warmup", "0")
    with null_server(Behaviour(stall_at=500, stall_s=1.0)) as server:
        assert bench.load(server.port, *constant).returncode == 0
    latency = bench.written()["latency"]["from_planned"]
    assert latency["p99_ms"] > 850
    assert latency["p50_ms"] < 200
    closed = bench.load_arguments(server.port)
    rate = closed.index("--rate")
    closed[rate : rate + 2] = ["--concurrency", "1"]
    with null_server(Behaviour(stall_at=500, stall_s=1.0)) as server:
        closed[closed.index("--url") + 1] = f"http://127.0.0.1:{server.port}"
        assert bench.run(*closed, "--duration", "1500ms", "--warmup", "0").returncode == 0
    closed_loop = bench.written()["latency"]["from_planned"]
    assert closed_loop["max_ms"] > 850
    assert closed_loop["p99_ms"] < 850  # this is how it hides


@pytest.mark.soak
def test_offline_ramp_and_bunched_arrivals(bench: Bench) -> None:
    with null_server() as server:
        arguments = bench.load_arguments(server.port)
        rate = arguments.index("--rate")
        offline = [*arguments[:rate], *arguments[rate + 2 :], "--concurrency", "4", "--requests", "50", "--warmup", "0"]
        assert bench.run(*offline, "--scenario", "offline").returncode == 0
        run = bench.written()
        assert (run["configuration"]["scenario"], run["counts"]["ok"], server.inferences) == ("offline", 50, 50)
        assert run["validity"]["most_in_flight"] == 4
        assert bench.load(server.port, "--rate-end", "800", "--scenario", "ramp").returncode == 0
        assert bench.written()["counts"]["ok"] == 150  # 600/s on average
        assert bench.gate().returncode == 20  # no single rate to judge by
        assert bench.load(server.port, "--arrivals", "gamma", "--burstiness", "3").returncode == 0
        assert bench.written()["configuration"]["burstiness"] == 3
        wrong = bench.load(server.port, "--scenario", "closed")
    assert wrong.returncode == 2
    assert "--scenario closed takes --concurrency" in only_sentence(wrong)


def test_a_budgets_file_says_what_to_send(bench: Bench) -> None:
    (bench.folder / "budgets.toml").write_text(
        '[models.null]\nmean_ms = 250\nrate_per_s = 400\nduration_s = 0.3\npayload = ["photo.jpg"]\n'
    )
    with null_server() as server:
        url = f"http://127.0.0.1:{server.port}"
        done = bench.run("run", "--url", url, "--model", "null", "--budgets", "budgets.toml", "--out", "out")
        assert done.returncode == 0, done.stderr
        assert bench.written()["counts"]["ok"] == 120
        assert bench.gate().returncode == 0
        nothing = bench.run("run", "--url", url, "--model", "null", "--rate", "5", "--out", "out")
    assert nothing.returncode == 2
    assert "--payload FILE" in only_sentence(nothing)


@pytest.mark.soak
def test_the_curve_of_latency_against_rate(bench: Bench) -> None:
    with null_server(Behaviour(delay_s=0.01)) as server:
        shared = ("sweep", "--url", f"http://127.0.0.1:{server.port}", "--model", "null", "--payload", "photo.jpg")
        fixed = bench.run(*shared, "--rates", "200,100", "--duration", "200ms", "--p95-ms", "5000", "--out", "out")
        assert fixed.returncode == 0, fixed.stderr
        found = bench.written("sweep")
        assert [point["rate_per_s"] for point in found["points"]] == [100, 200]
        assert (found["best_per_s"], found["partial"]) == (200, False)
        never = bench.run(*shared, "--search", "--duration", "200ms", "--mean-ms", "1", "--out", "out")
        assert never.returncode == 0, never.stderr
        assert bench.written("sweep")["best_per_s"] is None
        assert "Highest rate within the target: none" in never.stdout
        drawn = bench.run("report", "--sweep", "out/sweep.json", "--out", "out")
        assert drawn.returncode == 0, drawn.stderr
        mistaken = bench.run(*shared, "--search", "--out", "out")
    assert mistaken.returncode == 2
    assert "needs a latency target" in only_sentence(mistaken)


def test_a_report_that_cannot_be_written_does_not_change_the_verdict(bench: Bench) -> None:
    with null_server() as server:
        bench.load(server.port)
    passed = bench.gate("--report", "report")
    assert passed.returncode == 0
    assert (bench.folder / "report" / "report.html").is_file()
    unwritable = bench.gate("--report", "photo.jpg")
    assert unwritable.returncode == 0
    assert "Cannot write into photo.jpg" in only_sentence(unwritable)

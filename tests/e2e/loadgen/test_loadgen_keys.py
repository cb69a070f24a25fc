"""The load generator and the gate against a front end that wants an API key: the commands as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.api_keys import digest_of
from shared.settings import Settings
from tests.e2e.http_server import HttpServer
from tests.e2e.loadgen.bench import Bench, make_bench, only_sentence
from tests.helpers import first

KEY = "hr_alice-alice-alice"
BUDGETS = """\
[models.echo]
mean_ms = 5000
rate_per_s = 200
duration_s = 0.6
payload = "body.bin"
window_s = 0.1
offline_requests = 20
concurrency = 4

[gate]
pairs = 9
most_pairs = 9
too_noisy = 10
mean_margin = 10
p95_margin = 10
throughput_margin = 0.99
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "body.bin").write_bytes(b"headrace")
    return make_bench(tmp_path, BUDGETS)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[keys.alice]\nsha256 = "{digest_of(KEY.encode()).hex()}"\n')
    with HttpServer(Settings(keys_file=str(keys))) as server:
        yield f"http://127.0.0.1:{server.port}"


def test_every_command_sends_the_key_and_none_writes_it_down(bench: Bench, url: str) -> None:
    load = ("--model", "echo", "--budgets", "budgets.toml", "--out", "out")
    printed = ""
    for arguments in (
        ("wait", "--url", url, "--model", "echo", "--timeout", "20s"),
        ("run", "--url", url, *load),
        ("compare", "--base", url, "--candidate", url, *load),
        ("sweep", "--url", url, "--rates", "50", "--duration", "200ms", *load),
    ):
        done = bench.run(*arguments, environment={"HEADRACE_API_KEY": KEY})
        assert done.returncode == 0, done.stderr
        printed += done.stdout + done.stderr
    run = bench.written()
    assert run["counts"]["ok"] == run["counts"]["scheduled"] == 120
    assert run["service"]["requests"]["delta"] == run["validity"]["answered"]  # the metrics want a key, too
    assert run["service"]["version"]["version"]
    judged = bench.gate("--compare", "out/compare.json", "--report", "out")
    assert judged.returncode == 0, judged.stdout
    written = sorted(path.name for path in (bench.folder / "out").iterdir())
    assert written == ["compare.json", "report.html", "report.md", "run.json", "sweep.json"]
    for text in (printed, judged.stdout, *((bench.folder / "out" / name).read_text() for name in written)):
        assert KEY not in text


@pytest.mark.parametrize("key", first(1, ["", "hr_wrong-wrong"]))
def test_without_a_valid_key_it_ends_at_once_and_says_why(bench: Bench, url: str, key: str) -> None:
    load = ("--model", "echo", "--payload", "body.bin", "--rate", "5", "--out", "out")
    for arguments in (
        ("wait", "--url", url, "--model", "echo", "--timeout", "120s"),  # `run` has less patience: 30 s
        ("wait", "--url", url, "--model", "echo", "--timeout", "120s", "--payload", "body.bin"),
        ("run", "--url", url, *load),
        ("compare", "--base", url, "--candidate", url, *load),
    ):
        refused = bench.run(*arguments, environment={"HEADRACE_API_KEY": key})
        assert refused.returncode == 1, refused.stderr
        assert "refuses the request for 'echo' with status 401: unauthorized: " in only_sentence(refused)
        assert "what HEADRACE_API_KEY holds is sent as the key." in only_sentence(refused)
        assert not key or key not in refused.stderr
    assert not bench.result.exists()


def test_a_key_that_is_none_and_an_address_that_wants_tls_are_refused_before_anything_starts(bench: Bench) -> None:
    load = ("--model", "echo", "--payload", "body.bin", "--rate", "5", "--out", "out")
    for command in (
        ("wait", "--url", "http://127.0.0.1:9", "--model", "echo"),
        ("run", "--url", "http://127.0.0.1:9", *load),
    ):
        mistaken = bench.run(*command, environment={"HEADRACE_API_KEY": "two words"})
        assert mistaken.returncode == 2
        assert only_sentence(mistaken) == "loadgen: HEADRACE_API_KEY must be printable ASCII without spaces."
    for arguments in (("run", "--url"), ("compare", "--base", ".", "--candidate")):
        secure = bench.run(*arguments, "https://127.0.0.1", *load)
        assert secure.returncode == 2
        assert "not a plain http address, and the load generator speaks no TLS" in only_sentence(secure)

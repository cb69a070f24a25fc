"""Chats and texts for vectors against a running stack, by the load generator's own commands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.loadgen.bench import Bench, only_sentence
from tests.e2e.workloads.conftest import Place
from tests.helpers import first
from tests.proof import faults
from tests.unit.loadgen.workloads.chat_server import answer, chat_server

SHORT = ("--output-tokens", "8", "--most-output-tokens", "16", "--duration", "1s", "--warmup", "100ms", "--out", "out")


def chat(bench: Bench, place: Place, *arguments: str) -> dict[str, Any]:
    """Send chats and return the result, held against its schema."""
    model = ("--model", place.talk, "--workload", "chat", "--metrics", place.talk_metrics)
    done = bench.run("run", "--url", place.stack.url, *model, *SHORT, *arguments)
    assert done.returncode == 0, done.stderr
    return bench.written()


def test_chats_at_a_rate(bench: Bench, place: Place) -> None:
    run = chat(bench, place, "--rate", "30", "--ttft-objective-ms", "5000", "--itl-objective-ms", "1000")
    assert run["counts"]["ok"] == run["counts"]["scheduled"] == 30
    assert run["service"]["requests"]["delta"] == run["service"]["items"]["delta"] == run["validity"]["answered"] == 33
    tokens, columns = run["tokens"], run["requests"]["tokens"]
    assert tokens["goodput"]["good"] == 30
    assert tokens["output_tokens"] == sum(columns["output_tokens"]) > 150
    assert tokens["prompt_tokens"] == sum(columns["prompt_tokens"]) > 30 * 50
    assert tokens["itl"]["p50_ms"] >= 4  # a step every 5 ms
    assert all(
        due <= first <= last <= done
        for due, first, last, done in zip(
            run["requests"]["planned_us"],
            columns["first_us"],
            columns["last_us"],
            run["requests"]["done_us"],
            strict=True,
        )
    )
    again = chat(bench, place, "--rate", "30")
    assert again["configuration"]["payloads"] == run["configuration"]["payloads"]  # the same seed, the same bytes
    assert again["requests"]["tokens"]["output_tokens"] == columns["output_tokens"]


def test_chats_of_so_many_at_a_time(bench: Bench, place: Place) -> None:
    run = chat(bench, place, "--concurrency", "4")
    assert run["configuration"]["scenario"] == "closed" and run["validity"]["most_in_flight"] == 4
    assert run["counts"]["ok"] == run["counts"]["scheduled"] > 8


@pytest.mark.soak
def test_texts_count_the_same_by_every_way(bench: Bench, place: Place) -> None:
    common = ("--model", place.letters, "--workload", "embed", "--most-texts", "5", "--rate", "40", "--duration", "1s")
    found = []
    for url, ways in (
        (place.stack.url, ()),
        (f"{place.stack.url}/v1", ("--api", "openai")),
        (place.stack.url, ("--api", "native")),
        (place.stack.url, ("--api", "native", "--accept", "msgpack")),
        (place.redis_url, ()),
    ):
        metrics = ("--metrics", place.letters_metrics)
        done = bench.run("run", "--url", url, *metrics, *common, *ways, "--warmup", "0", "--out", "out")
        assert done.returncode == 0, done.stderr
        assert "texts" in done.stdout
        run = bench.written()
        assert run["counts"]["ok"] == run["counts"]["scheduled"] == 40
        # A front end cuts a list of OpenAI's into the pieces that suit the model.
        items, is_cut = run["service"]["items"]["delta"], run["configuration"]["workload"]["api"] == "openai"
        assert items > 40 if is_cut else items == 40
        found.append({name: run["tokens"][name] for name in ("texts", "prompt_tokens", "goodput")})
    assert all(one == found[0] for one in found)
    assert found[0]["texts"] > 60 and found[0]["prompt_tokens"] > 40 * found[0]["texts"]


def test_a_sweep_has_the_figures_at_every_rate(bench: Bench, place: Place) -> None:
    arguments = ("--model", place.talk, "--workload", "chat", *SHORT, "--rates", "10,20", "--goodput", "0.5")
    objectives = ("--ttft-objective-ms", "10000", "--itl-objective-ms", "1000")
    done = bench.run(
        "sweep",
        "--url",
        place.stack.url,
        *(part for part in arguments if part not in ("--warmup", "100ms")),
        *objectives,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("goodput 100.0%") == 2
    assert "Highest rate within the target: 20/s" in done.stdout
    sweep = bench.written("sweep")
    assert [point["tokens"]["goodput"]["share"] for point in sweep["points"]] == [1, 1]
    assert sweep["target_goodput"] == 0.5 and sweep["workload"]["kind"] == "chat"
    drawn = bench.run("report", "--sweep", "out/sweep.json", "--out", "out")
    assert drawn.returncode == 0, drawn.stderr
    assert "Goodput against rate" in (bench.folder / "out/report.html").read_text()


BUDGETS = """\
[models.MODEL]
ttft_ms = { p95 = 250 }
itl_ms = { p95 = 250 }
goodput = 0.9
rate_per_s = 60
duration_s = 2
window_s = 0.3
offline_requests = 8
concurrency = 4
[models.MODEL.workload]
kind = "chat"
output_tokens = 6
most_output_tokens = 12
ttft_objective_ms = 250
itl_objective_ms = 250
[gate]
max_pacing_lag_ms = 5000
max_cpu_share = 1
min_rate_share = 0.5
too_noisy = 10
mean_margin = 10
p95_margin = 10
throughput_margin = 0.99
ttft_margin = 10
itl_margin = 10
goodput_margin = 0.99
pairs = 10
most_pairs = 10
"""


def test_a_build_whose_first_token_is_slow_fails_by_that_name(bench: Bench, place: Place) -> None:
    """The proxy holds back what the service sends, all of it by as much: the first token is late, the gaps are not."""
    budgets = BUDGETS.replace("MODEL", place.talk)
    url = place.stack.url
    (bench.folder / "budgets.toml").write_text(budgets)
    arguments = ("--model", place.talk, "--budgets", "budgets.toml", "--warmup", "200ms", "--out", "out")
    with faults.delaying_proxy(("127.0.0.1", int(url.rpartition(":")[2])), 0.5) as slow:
        assert bench.run("run", "--url", slow, *arguments).returncode == 0
    failed = bench.gate()
    assert failed.returncode == 10, failed.stdout
    assert "The p95 of the time to first token (TTFT) is " in failed.stdout
    assert "The goodput is 0.0% of the requests" in failed.stdout
    assert "(ITL) is" not in failed.stdout
    # What passes is judged by budgets that a busy machine can keep.
    (bench.folder / "budgets.toml").write_text(budgets.replace("250", "8000"))
    assert bench.run("run", "--url", url, *arguments).returncode == 0
    passed = bench.gate()
    assert passed.returncode == 0, passed.stdout
    for name in ("TTFT p95", "ITL p95", "goodput: requests that missed"):
        assert f"\n{name} " in passed.stdout


@pytest.mark.soak  # the verdict on first tokens is in tests/unit/loadgen/workloads/test_chat_gate.py
@pytest.mark.timeout(120)
def test_a_comparison_asks_both_and_compares_first_tokens(bench: Bench, place: Place) -> None:
    (bench.folder / "budgets.toml").write_text(BUDGETS.replace("MODEL", place.talk).replace("250", "8000"))
    common = ("--model", place.talk, "--budgets", "budgets.toml", "--out", "out")
    done = bench.run("compare", "--base", place.stack.url, "--candidate", place.stack.url, *common, timeout=100)
    assert done.returncode == 0, done.stderr
    compare = bench.written("compare")
    assert len(compare["pairs"]) == 10 and compare["plan"]["workload"]["kind"] == "chat"
    for pair in compare["pairs"]:
        for side in ("base", "candidate"):
            assert pair[side]["ttft_ms"] > 0 and pair[side]["itl_ms"] > 3 and 0 < pair[side]["goodput"] <= 1
    assert [answer["difference"] for answer in compare["answers"]] == [0.0] * 8  # the texts are the same
    assert "TTFT" in done.stdout and "ITL" in done.stdout
    assert bench.run("run", "--url", place.stack.url, *common, "--warmup", "0").returncode == 0
    judged = bench.gate("--compare", "out/compare.json")
    assert judged.returncode == 0, judged.stdout
    assert "TTFT against the base" in judged.stdout and "goodput against the base" in judged.stdout


def test_another_server_of_openais_api(bench: Bench) -> None:
    arguments = ("--model", "their/model", "--workload", "chat", "--rate", "20", "--duration", "1s", "--out", "out")
    key, secret = ("--key-env", "THEIR_KEY"), {"THEIR_KEY": "sk-their-secret"}
    with chat_server(lambda number: answer(4)) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        extra = ("--extra-body", '{"ignore_eos": true}')
        done = bench.run("run", "--url", url, *arguments, *key, *extra, environment=secret)
        assert done.returncode == 0, done.stderr
        unset = bench.run("run", "--url", url, *arguments, "--key-env", "NOBODYS_KEY")
        wrong = bench.run("run", "--url", url, *arguments, "--model", "nobody", *key, environment=secret)
        assert bench.run("run", "--url", url, *arguments, *key, environment=secret).returncode == 0
    assert set(server.paths) == {"/v1/chat/completions"} and set(server.keys) == {"Bearer sk-their-secret"}
    assert server.documents[0]["ignore_eos"] is True and server.documents[0]["model"] == "their/model"
    run = bench.written()
    assert run["service"]["card"] is None and run["tokens"]["output_tokens"] == 80
    for text in (done.stdout, done.stderr, json.dumps(run)):
        assert "sk-their-secret" not in text
    assert (unset.returncode, only_sentence(unset)[-49:]) == (2, "names the variable NOBODYS_KEY, which is not set.")
    assert "has no model named 'nobody'; it serves their/model." in only_sentence(wrong)


@pytest.mark.parametrize(
    ("arguments", "says"),
    first(
        2,
        [
            (("--workload", "chat", "--payload", "photo.jpg"), "Give --payload or --workload, not both."),
            (("--most-texts", "3"), "Say which --workload the options of its texts are for, chat or embed."),
            (("--workload", "chat", "--api", "native"), "chat is asked by the api openai only"),
            (("--workload", "chat", "--url", "redis://127.0.0.1:9"), "A chat goes over HTTP"),
            (("--workload", "embed", "--url", "redis://127.0.0.1:9", "--api", "openai"), "A stream takes no requests"),
            (("--workload", "chat", "--extra-body", "[1]"), "'[1]' is not a JSON object."),
            (("--workload", "chat", "--input-words", "0"), "input_words"),
        ],
    ),
)
def test_mistakes_get_one_sentence(bench: Bench, arguments: tuple[str, ...], says: str) -> None:
    done = bench.run("run", "--url", "http://127.0.0.1:9", "--model", "m", "--rate", "5", "--out", "out", *arguments)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr

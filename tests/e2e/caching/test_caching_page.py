"""A result cache on a running stack: the commands of its page, and a model that changes its version."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.children import ROOT
from tests.e2e.examples import examples_of
from tests.e2e.later.client import RAW, Client, Got
from tests.e2e.stack import Stack
from tests.helpers import eventually


def models_file(folder: Path, model: str, version: str) -> Path:
    path = folder / f"models-{version}.toml"
    path.write_text(f'[models.{model}]\nfamily = "echo"\nversion = "{version}"\ncache_s = 600\n')
    return path


@pytest.fixture(scope="module")
def model() -> str:
    return f"test-cache-{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def stack(valkey_url: str, model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(valkey_url, models_file(tmp_path_factory.mktemp("cache"), model, "1")) as running:
        running.start_consumer(model)
        running.start_front_end()
        eventually(lambda: running.predict(model, b"ready").status == 200)
        yield running


def status_of(stack: Stack, model: str, body: bytes = b"hello") -> str:
    answer = Client(stack).send("POST", f"/v1/models/{model}/predict", body, Content_Type=RAW)
    assert answer.status == 200, answer.body
    return answer.headers["cache-status"]


def test_the_commands_of_the_page(stack: Stack, model: str, tmp_path: Path) -> None:
    lines = [line for line in examples_of("docs/caching.md") if line]
    assert len(lines) == 5
    script = "\n".join(lines).replace("http://127.0.0.1:8000", stack.url).replace("/imagenet/", f"/{model}/")
    script = script.replace("image/jpeg", RAW).replace("@examples/", f"@{ROOT}/examples/")
    script = script.replace("curl ", "curl -sS --fail-with-body ")
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    hit, fresh = done.stdout.lower().splitlines()
    assert hit.startswith("cache-status: headrace; hit; ttl=59")
    assert fresh.strip() == "cache-status: headrace; fwd=bypass"


def test_a_new_version_answers_for_itself_also_while_both_serve(
    stack: Stack, model: str, valkey_url: str, tmp_path: Path
) -> None:
    assert status_of(stack, model) == "headrace; fwd=miss"
    assert status_of(stack, model).startswith("headrace; hit")
    newer = Stack(valkey_url, models_file(tmp_path, model, "2"))
    with newer:
        newer.start_consumer(model)

        def is_new() -> bool:
            answer = stack.predict(model, b"hello")
            # Whichever version is asked for, an answer is that of the version that it names.
            return answer.body["version"] == "2" and answer.headers["cache-status"].startswith("headrace; hit")

        eventually(is_new)


def test_where_the_time_of_a_hit_went_is_said_to_be_the_cache(stack: Stack, model: str) -> None:
    client = Client(stack)

    def hit() -> Got | None:
        answer = client.send("POST", f"/v1/models/{model}/predict", b"explain me", Content_Type=RAW)
        return answer if answer.headers["cache-status"].startswith("headrace; hit") else None

    def notes(answer: Got) -> list[str]:
        path = f"/v1/models/{model}/requests/{answer.headers['x-request-id']}/explain"

        def story() -> Any:
            [found] = client.send("GET", path).json.get("found", [None])
            return found if found and "front_end" in found else None

        found: list[str] = eventually(story)["notes"]
        return found

    answer = eventually(hit)
    assert answer is not None
    assert notes(answer) == ["Its answer came from the result cache; no consumer had a part in it."]

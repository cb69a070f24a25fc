"""A classifier and a reranker with small random encoders, served like any other model."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from pathlib import Path

import pytest

from tests.children import ROOT
from tests.e2e.stack import Stack
from tests.unit.consumer.models.text import tiny

PAGE = (ROOT / "docs/text-models.md").read_text(encoding="utf-8")
COMMANDS = [line for line in PAGE.splitlines() if line.startswith("curl")]

pytestmark = pytest.mark.soak  # each consumer takes seconds to import transformers


def mentions(command: str) -> bool:
    """Whether it asks one of the models that the page tells how to bring."""
    return "mood" in command or "models/rank" in command or '"rank"' in command


def test_both_answer_and_name_what_is_wrong(valkey_url: str, tmp_path: Path) -> None:
    mood, rank = (f"test-{name}-{secrets.token_hex(6)}" for name in ("mood", "rank"))
    kind = "BertForSequenceClassification"
    (tmp_path / "mood").mkdir()
    (tmp_path / "rank").mkdir()
    tiny.save(tmp_path / "mood", kind, **tiny.labels("good", "bad", "neither"))
    tiny.save(tmp_path / "rank", kind, **tiny.labels("relevant"))
    models = tmp_path / "models.toml"
    models.write_text(
        "".join(
            f'[models.{name}]\nfamily = "text"\nweights = "{tmp_path / folder}"\n'
            for name, folder in ((mood, "mood"), (rank, "rank"))
        )
    )
    with Stack(valkey_url, models, DATA_DIR=str(tmp_path / "data")) as stack:
        consumers = [stack.begin_consumer(name) for name in (mood, rank)]
        stack.start_front_end()
        for consumer in consumers:
            consumer.until("Ready: ")
        for name in (mood, rank):
            stack.wait(name)

        answer = stack.predict(mood, b"the cat sat", "text/plain", "?top_k=2")
        assert answer.status == 200, answer.body
        assert len(answer.body["predictions"]) == 2
        assert {one["label"] for one in answer.body["predictions"]} < {"good", "bad", "neither"}

        def ask(**inputs: list[str]) -> tuple[int, dict[str, object]]:
            document = {
                "inputs": [
                    {"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": texts}
                    for name, texts in inputs.items()
                ]
            }
            found = stack.predict(rank, json.dumps(document).encode(), "application/json")
            return found.status, found.body

        status, body = ask(query=["cat", "cat"], text=["a dog", "the cat sat"])
        assert status == 200, body
        scores = next(one for one in body["outputs"] if one["name"] == "score")["data"]  # type: ignore[attr-defined]
        assert len(scores) == 2
        assert all(0 < score < 1 for score in scores)
        status, body = ask(text=["a dog"])
        assert status == 422, body

        own = [command for command in COMMANDS if mentions(command)]
        assert len(own) == 3
        for command in own:
            here = command.replace("http://127.0.0.1:8000", stack.url)
            here = re.sub(r"\b(mood|rank)\b(?=/|\")", lambda found: mood if found[1] == "mood" else rank, here)
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", here.replace("curl ", "curl -sS --fail-with-body ", 1)],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr

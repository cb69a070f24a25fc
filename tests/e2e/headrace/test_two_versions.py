"""Consumers that serve two versions of one model at once: whoever looks is told, until one version is left."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.stack import Stack
from tests.helpers import eventually
from tests.unit.headrace.operators import headrace


def versions_file(folder: Path, model: str, version: str) -> Path:
    path = folder / f"models-{version}.toml"
    path.write_text(f'[models.{model}]\nfamily = "echo"\nversion = "{version}"\n')
    return path


def test_two_versions_of_a_model_at_once_are_told(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    def judged() -> list[str]:
        findings: list[dict[str, Any]] = json.loads(headrace(valkey_url, "doctor", "--json").out)["findings"]
        return [one["detail"] for one in findings if one["check"] == f"model {model_name}" and one["state"] != "ok"]

    def counted() -> float:
        with urllib.request.urlopen(f"{stack.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        [line] = [line for line in lines if line.startswith(f'headrace_model_versions{{model="{model_name}"}}')]
        return float(line.rpartition(" ")[2])

    files = {version: versions_file(tmp_path, model_name, version) for version in ("1", "2")}
    with Stack(valkey_url, files["1"]) as stack:
        front_end = stack.start_front_end()
        stack.start_consumer(model_name)
        stack.wait(model_name)
        eventually(lambda: counted() == 1)
        assert judged() == []
        second = stack.start_consumer(model_name, MODELS_FILE=str(files["2"]))
        front_end.until(f"Consumers serve versions 1 and 2 of model {model_name} at once.")
        assert counted() == 2
        [told] = judged()
        assert told.startswith("Live workers serve 2 versions of it and overwrite each other's card: 1 by ")
        assert second.terminate() == 0
        front_end.until(f"Every consumer of model {model_name} serves version 1 now.")
        assert counted() == 1
        assert judged() == []
        assert sum("at once" in line for line in front_end.lines) == 1

"""`headrace batch` against a running stack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import ROOT, clean_environment
from tests.e2e.bulk.site import JPEG, Site, line, number_of, numbered


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("batch")) as running:
        running.start("imagenet", "echo")
        yield running


def batch(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace", "batch", "--url", site.stack.url, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=50, check=False
    )


def test_a_file_goes_in_and_its_results_come_out(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "items.jsonl"
    source.write_bytes(numbered(300))
    done = batch(site, "echo", str(source))
    assert done.returncode == 0, done.stderr
    assert [number_of(json.loads(one)) for one in done.stdout.splitlines()] == list(range(300))
    assert "300 items are uploaded" in done.stderr
    assert "completed: 300 results, 0 of them errors." in done.stderr


def test_a_folder_of_photographs(site: Site, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.jpg", "inner/a.png", "notes.txt"):
        (tmp_path / name).write_bytes(JPEG)
    output = tmp_path / "results.jsonl"
    done = batch(site, "imagenet", str(tmp_path), "--output", str(output), "--order", "completion")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert {json.loads(one)["id"] for one in output.read_text().splitlines()} == {"b.jpg", "inner/a.png"}


def test_errors_show_in_the_exit_code(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "items.jsonl"
    source.write_bytes(line(b"x") + b"no json\n")
    done = batch(site, "echo", str(source))
    assert done.returncode == 1
    assert "2 results, 1 of them errors" in done.stderr
    refused = batch(site, "nobody", str(source))
    assert (refused.returncode, "There is no model 'nobody'" in refused.stderr) == (2, True)
    (tmp_path / "items.csv").write_text("1,2")
    assert "is no .jsonl, no .zip and no folder" in batch(site, "echo", str(tmp_path / "items.csv")).stderr
    assert batch(site, "echo", str(source), "--url", "http://127.0.0.1:1").returncode == 1

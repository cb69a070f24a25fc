"""The result file: strict JSON that follows its schema, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from loadgen.errors import LoadgenError
from loadgen.results import files, runfile
from loadgen.results.ledger import OPEN, TIMEOUT, Ledger
from tests.unit.loadgen.runs import START_S, good_run, make_ledger, make_run

SCHEMA = json.loads(Path(files.__file__).with_name("run.schema.json").read_text())


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def strict(data: bytes) -> Any:
    """Parse as strictly as JSON is meant, and hold the value against the schema."""
    value = json.loads(data, parse_constant=refuse)
    jsonschema.Draft202012Validator(SCHEMA).validate(value)
    return value


def failing_ledger() -> Ledger:
    ledger = make_ledger([5.0] * 20, TIMEOUT, failures=2)
    ledger.outcome[5] = ledger.http_outcome(503, "no_worker")
    ledger.outcome[6] = ledger.http_outcome(500, None)
    index = ledger.open(START_S + 0.39, START_S + 0.39, 0, False)  # never sent, never ended
    assert ledger.outcome[index] == OPEN
    ledger.open(START_S - 0.1, START_S - 0.1, 0, True)
    return ledger


@pytest.mark.parametrize("name", sorted(files.SCHEMAS))
def test_the_schemas_are_the_types(name: str) -> None:
    """When this fails: python -m loadgen.results.files."""
    schema = json.loads(Path(files.__file__).with_name(f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(files.schema_text(name)) == schema


@pytest.mark.parametrize(
    "run", [good_run(), make_run(Ledger()), make_run(failing_ledger())], ids=["good", "empty", "failing"]
)
def test_every_run_follows_the_schema_and_reads_back(run: runfile.RunFile, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    files.write_atomically(path, files.encode(run))
    strict(path.read_bytes())
    assert files.read(path, runfile.RunFile) == run
    assert [child.name for child in tmp_path.iterdir()] == ["run.json"]


def test_unset_and_infinite_are_null_and_told_apart() -> None:
    empty = strict(files.encode(make_run(Ledger())))["latency"]["from_planned"]
    assert (empty["count"], empty["failed"], empty["mean_ms"], empty["p50_ms"]) == (0, 0, None, None)
    failing = strict(files.encode(make_run(failing_ledger())))
    latency = failing["latency"]["from_planned"]
    assert (latency["count"], latency["failed"], latency["mean_ms"], latency["p95_ms"]) == (21, 5, None, None)
    assert latency["p50_ms"] == 5.0
    assert failing["latency"]["answered_from_planned"]["mean_ms"] == 5.0
    assert failing["counts"]["http"] == [
        {"status": 500, "code": None, "count": 1},
        {"status": 503, "code": "no_worker", "count": 1},
    ]
    assert failing["counts"]["interrupted"] == 1
    assert failing["requests"]["sent_us"][-1] is None
    assert failing["warmup"] == {"scheduled": 1, "ok": 0, "failed": 1}


def test_windows_cover_every_second_even_an_empty_one() -> None:
    ledger = Ledger()
    for due_s in (0.1, 0.2, 2.5):
        index = ledger.open(START_S + due_s, START_S + due_s, 0, False)
        ledger.close(index, 0, START_S + due_s + 0.01)
        ledger.sent_s[index] = START_S + due_s
    windows = make_run(ledger).windows
    assert [(window.start_s, window.scheduled, window.ok) for window in windows] == [(0, 2, 2), (1, 0, 0), (2, 1, 1)]
    assert windows[1].mean_ms is None


def test_a_figure_that_is_not_finite_is_never_written() -> None:
    run = good_run()
    validity = msgspec.structs.replace(run.validity, generator_cpu_share=float("nan"))
    with pytest.raises(ValueError, match="read back"):
        files.encode(msgspec.structs.replace(run, validity=validity))


def changed(change: dict[str, Any]) -> bytes:
    return json.dumps(json.loads(files.encode(good_run())) | change).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{}", "missing required field"),
        (b"\xff\xfe", "not a run file"),
        (files.encode(good_run())[:-100], "truncated"),
        (b"[" * 100_000, "not a run file"),
        (changed({"version": 2}), "Invalid enum value 2"),
        (changed({"more": 1}), "unknown field `more`"),
        (changed({"counts": None}), "counts"),
    ],
)
def test_files_that_are_refused(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(data)
    with pytest.raises(files.RunFileError, match=says):
        files.read(path, runfile.RunFile)
    with pytest.raises(files.RunFileError, match="No such file"):
        files.read(tmp_path / "missing.json", runfile.RunFile)


def test_an_earlier_result_does_not_outlive_the_start_of_a_new_run(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("old")
    assert not files.prepare_folder(tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(LoadgenError, match="Cannot write into"):
        files.prepare_folder(tmp_path / "file")

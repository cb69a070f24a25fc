"""What the command line may say: durations, addresses, payloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadgen.errors import EXIT_USAGE, LoadgenError
from loadgen.scenario import (
    Payload,
    Scenario,
    default_warmup_s,
    guess_content_type,
    load_payloads,
    parse_target,
)


def test_targets() -> None:
    target = parse_target("http://127.0.0.1:8000/base/")
    assert (target.host, target.port, target.predict_path("a/b")) == (
        "127.0.0.1",
        8000,
        "/base/v1/models/a%2Fb/predict",
    )
    assert parse_target("http://[::1]:8000").host_header == "[::1]:8000"
    assert parse_target("http://localhost").host_header == "localhost:80"


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "https://x", "http://", "http://x:y", "http://x y", "http://u@x", "http://x/?q", "", "ftp://x"],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(LoadgenError, match=r"write http://127\.0\.0\.1:8000") as refused:
        parse_target(url)
    assert refused.value.exit_code == EXIT_USAGE


def test_payloads_come_from_files_and_folders_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.PNG", "a.jpg", ".hidden"):
        (folder / name).write_bytes(name.encode())
    single = tmp_path / "tensor.raw"
    single.write_bytes(b"raw")
    payloads = load_payloads((folder, single))
    assert [(payload.name, payload.content_type) for payload in payloads] == [
        ("a.jpg", "image/jpeg"),
        ("b.PNG", "image/png"),
        ("tensor.raw", "application/octet-stream"),
    ]
    assert [payload.content_type for payload in load_payloads((folder,), "image/webp")] == ["image/webp"] * 2


def test_payloads_that_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(LoadgenError, match="Cannot read the payload"):
        load_payloads((tmp_path / "missing",))
    with pytest.raises(LoadgenError, match="No files"):
        load_payloads((tmp_path,))
    with pytest.raises(LoadgenError, match="not a media type"):
        load_payloads((tmp_path,), "image/jpeg\r\nX-Injected: 1")


@pytest.mark.parametrize("name", ["x.jpeg", "x.webp", "x.json", "x.msgpack", "x"])
def test_content_types_by_suffix(name: str) -> None:
    expected = {"x.jpeg": "image/jpeg", "x": "application/octet-stream"}
    kind = "image" if name == "x.webp" else "application"
    assert guess_content_type(Path(name)) == expected.get(name, f"{kind}/{name.partition('.')[2]}")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate_per_s": None}, "exactly one of --rate"),
        ({"concurrency": 2}, "exactly one of --rate"),
        ({"rate_per_s": -1.0}, "--rate must be above 0"),
        ({"rate_per_s": 1e9}, "one run may have"),
        ({"rate_per_s": 0.1}, "less than one request"),
        ({"max_in_flight": 0}, "--max-in-flight"),
        ({"rate_per_s": None, "concurrency": 600}, "--concurrency must lie"),
        ({"timeout_s": 0.0}, "must be above 0"),
    ],
)
def test_scenarios_that_make_no_sense(changes: dict[str, Any], says: str) -> None:
    options: dict[str, Any] = {"rate_per_s": 10.0, "duration_s": 1.0, "warmup_s": 0.0, "seed": 1}
    payloads = (Payload("x", "application/octet-stream", b"x"),)
    with pytest.raises(LoadgenError, match=says) as refused:
        Scenario(target=parse_target("http://x"), model="m", payloads=payloads, **{**options, **changes})
    assert refused.value.exit_code == EXIT_USAGE


def test_the_warm_up_grows_with_the_run_up_to_a_limit() -> None:
    assert [default_warmup_s(duration_s) for duration_s in (10, 30, 600)] == [1.0, 3.0, 5.0]

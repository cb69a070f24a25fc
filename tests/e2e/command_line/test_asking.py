"""`predict`, `request`, `models`, `workers` and `--redis` against a running stack."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.redis.embedded import free_port
from tests.children import ROOT, clean_environment
from tests.helpers import first

from .conftest import Place

PHOTO = "examples/photos/cat.jpg"


def test_a_photograph_is_answered_with_a_table(place: Place) -> None:
    done = place.run("predict", "colour", PHOTO, "--url", place.url)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["LABEL", "SCORE", "INDEX"]
    assert len(rows) == 2


def test_json_says_all_of_it_and_an_id_finds_it_again(place: Place) -> None:
    done = place.run("predict", "colour", PHOTO, "--url", place.url, "--json", "--id", "photo-1", "--timeout", "30s")
    answer = json.loads(done.stdout)
    assert answer["id"] == "photo-1"
    again = place.run("request", "get", "photo-1", "--url", place.url, "--json")
    assert json.loads(again.stdout)["predictions"] == answer["predictions"]
    late = place.run("request", "cancel", "photo-1", "--model", "colour", "--url", place.url)
    assert (late.returncode, "an answer already" in late.stderr) == (4, True)


def test_standard_input_goes_as_what_the_model_takes(place: Place) -> None:
    done = place.run("predict", "echo", "-", "--url", place.url, stdin=b"hello")
    assert done.returncode == 0, done.stderr
    assert "104 101 108 108 111" in done.stdout


def test_a_model_that_is_not_there_has_its_nearest_name(place: Place) -> None:
    done = place.run("predict", "color", PHOTO, "--url", place.url)
    assert done.returncode == 2
    assert done.stderr == "headrace: There is no model 'color'; there are: colour, echo. Did you mean colour?\n"
    workers = place.run("--redis", place.redis, "workers", "color")
    assert (workers.returncode, "Did you mean colour?" in workers.stderr) == (2, True)
    paused = place.run("--redis", place.redis, "pause", "color")
    assert (paused.returncode, "Did you mean colour?" in paused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("source", "says"),
    [("nothing.jpg", "No such file"), ("examples", "it is a folder"), ("/dev/zero", "it is a device")],
)
def test_files_that_are_none(place: Place, source: str, says: str) -> None:
    done = place.run("predict", "echo", source, "--url", place.url)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_huge_file_is_refused_before_it_is_read(place: Place, tmp_path: Path) -> None:
    huge = tmp_path / "huge.bin"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    done = place.run("predict", "echo", str(huge), "--url", place.url)
    assert done.returncode == 2
    assert "larger than" in done.stderr


def test_what_the_front_end_refuses_is_said_in_its_words(place: Place, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(17 << 20)
    done = place.run("predict", "echo", str(large), "--url", place.url)
    assert (done.returncode, "413" in done.stderr) == (4, True), done.stderr
    done = place.run("predict", "colour", "-", "--url", place.url, stdin=b"no picture")
    assert done.returncode == 4


@pytest.mark.parametrize("name", first(2, ["a/b", "../x", "", "x" * 65, "é"]))
def test_ids_that_are_none(place: Place, name: str) -> None:
    done = place.run("request", "get", name, "--url", place.url)
    assert (done.returncode, "An id is 1 to 64" in done.stderr) == (2, True)


def test_a_request_that_never_came(place: Place) -> None:
    done = place.run("request", "cancel", "never", "--url", place.url)
    assert (done.returncode, "There is no request never of any model" in done.stderr) == (4, True)


def test_nobody_at_the_address() -> None:
    away = Place(f"http://127.0.0.1:{free_port()}", f"redis://127.0.0.1:{free_port()}/0")
    done = away.run("predict", "echo", PHOTO, "--url", away.url)
    assert (done.returncode, "No front end answers at" in done.stderr) == (1, True)
    done = away.run("predict", "echo", PHOTO, "--url", "ftp://x")
    assert (done.returncode, "--url is an address" in done.stderr) == (2, True)
    done = away.run("--redis", away.redis, "models")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    done = away.run("--redis", "http://x", "models")
    assert (done.returncode, "--redis must start with" in done.stderr) == (2, True)


def test_models_and_workers(place: Place) -> None:
    models = place.run("--redis", place.redis, "models")
    assert [line.split()[:3] for line in models.stdout.splitlines()] == [
        ["MODEL", "STATE", "WORKERS"],
        ["colour", "ready", "1"],
        ["echo", "ready", "1"],
    ]
    listed = json.loads(place.run(f"--redis={place.redis}", "models", "--json").stdout)
    assert [one["state"] for one in listed["models"]] == ["ready", "ready"]
    workers = place.run("workers", "echo", "--json", HEADRACE_REDIS_URL=place.redis)
    [worker] = json.loads(workers.stdout)["workers"]
    assert (worker["model"], worker["state"]) == ("echo", "ready")
    table = place.run("--redis", place.redis, "workers").stdout.splitlines()
    assert len(table) == 3


def test_the_settings_say_where_the_front_end_is(place: Place) -> None:
    port = place.url.rpartition(":")[2]
    assert place.run("predict", "colour", PHOTO, HEADRACE_PORT=port).returncode == 0
    done = place.run("predict", "echo", PHOTO, HEADRACE_PORT="0")
    assert (done.returncode, "--url" in done.stderr) == (2, True)


def _blocks() -> list[str]:
    """Return the commands of docs/cli.md that ask a front end, or look at Redis."""
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    return [line for line in lines if re.search(r"\b(predict|models)\b", line) and " up " not in line]


@pytest.mark.parametrize("line", _blocks())
def test_what_the_page_shows_works(place: Place, line: str) -> None:
    """On the models that are here, and at the addresses of this stack."""
    line = line.replace("redis://127.0.0.1:6379/0", place.redis).replace("imagenet", "colour")
    settings = clean_environment(HEADRACE_PORT=place.url.rpartition(":")[2])
    program = f'headrace() {{ "{sys.executable}" -m headrace "$@"; }}\n{line}'
    done = subprocess.run(["bash", "-c", program], cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1

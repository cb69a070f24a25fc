"""What becomes a release, and what its workflow may do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.release_notes import NotReleasable, notes, section

ROOT = Path(__file__).parents[3]
SOURCE = '"""The version."""\n\n__version__ = "1.2.0"\n'
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-12-01

### Added

- One thing.

## [1.2.0rc1] - 2026-11-30

### Fixed

- Another.

## [1.1.0] - 2026-11-01

Nothing worth a line.
"""


def _workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return loaded


def test_the_notes_are_the_changelogs_section() -> None:
    assert notes("v1.2.0", SOURCE, CHANGELOG) == "### Added\n\n- One thing.\n"
    assert section(CHANGELOG, "1.2.0rc1") == "### Fixed\n\n- Another.\n"


@pytest.mark.parametrize(
    ("tag", "source", "sentence"),
    [
        ("v1.3.0", SOURCE, "The tag is v1.3.0, but shared/version.py says 1.2.0: it must be v1.2.0."),
        ("1.2.0", SOURCE, "The tag is 1.2.0, but"),
        ("v1.1.0", SOURCE.replace("1.2.0", "1.1.0"), r"CHANGELOG.md lists no change under \[1.1.0\]."),
        ("v2.0.0", SOURCE.replace("1.2.0", "2.0.0"), r"no section '## \[2.0.0\] - YYYY-MM-DD'."),
        ("v1x2.0", SOURCE.replace("1.2.0", "1x2.0"), "has no section"),
        ("vUnreleased", SOURCE.replace("1.2.0", "Unreleased"), "has no section"),
        ("v1.2.0", "", "shared/version.py has no line __version__"),
    ],
)
def test_what_does_not_belong_together_is_no_release(tag: str, source: str, sentence: str) -> None:
    with pytest.raises(NotReleasable, match=sentence):
        notes(tag, source, CHANGELOG)


@pytest.mark.parametrize(("tag", "code"), [("v0.1.0", 0), ("v0.0.1", 1)])
def test_the_command_reads_this_checkout(tag: str, code: int) -> None:
    done = subprocess.run([sys.executable, ROOT / "deploy/release_notes.py", tag], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("### Added") or done.stderr.startswith("The tag is v0.0.1, but")


def test_nothing_is_published_before_everything_is_tested() -> None:
    jobs = _workflow("release")["jobs"]
    before: dict[str, set[str]] = {}
    for name, job in jobs.items():
        needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
        before[name] = set(needs).union(*(before[one] for one in needs))
    assert {"check", "build", "test"} <= before["images"]
    assert {"check", "build", "test", "images"} <= before["publish"]
    assert before["announce"] == set(jobs) - {"announce"}
    assert jobs["test"]["strategy"]["matrix"] == _workflow("ci")["jobs"]["wheel"]["strategy"]["matrix"]


def test_no_password_is_needed_to_publish() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text()
    assert "secrets." not in text
    publish = _workflow("release")["jobs"]["publish"]
    assert publish["environment"] == "release"
    assert publish["permissions"]["id-token"] == "write"


def test_images_carry_where_they_come_from() -> None:
    images = _workflow("release")["jobs"]["images"]
    [push] = [step["with"] for step in images["steps"] if "build-push-action" in step.get("uses", "")]
    assert (push["sbom"], push["provenance"], push["push"]) == (True, "mode=max", True)
    assert "PYTHON_IMAGE=${{ steps.names.outputs.base }}" in push["build-args"]
    [attest] = [step["with"] for step in images["steps"] if "actions/attest@" in step.get("uses", "")]
    assert attest["subject-digest"] == "${{ steps.push.outputs.digest }}"
    for entry in images["strategy"]["matrix"]["include"]:
        assert re.search(r"^ARG PYTHON_IMAGE=python:\S+$", (ROOT / entry["file"]).read_text(), re.MULTILINE)
        for group in entry["groups"].split():
            assert (ROOT / "locks" / f"{group}.txt").exists()


def test_the_oldest_python_that_is_tried_is_the_one_that_is_required() -> None:
    tried = _workflow("ci")["jobs"]["wheel"]["strategy"]["matrix"]["python"]
    assert f'requires-python = ">={tried[0]}"' in (ROOT / "pyproject.toml").read_text()


def test_every_kind_of_dependency_is_looked_after() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {one["package-ecosystem"] for one in updates} == {"pip", "github-actions", "docker", "docker-compose"}
    assert all(one["groups"] for one in updates)


def test_vulnerabilities_are_looked_for_every_night_and_when_pins_change() -> None:
    for name in ("ci", "nightly"):
        assert "make audit" in [step.get("run") for step in _workflow(name)["jobs"]["audit"]["steps"]]
    assert "audit" in _workflow("nightly")["jobs"]["tell"]["needs"]

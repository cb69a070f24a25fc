"""Row 30: a short storm. `make soak` has the long one; this is the same with other seeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ROOT, clean_environment

pytestmark = [pytest.mark.fault, pytest.mark.soak, pytest.mark.timeout(400)]


@pytest.mark.parametrize("seed", [101, 102, 103])
def test_row_30_a_storm_leaves_nothing_behind(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.storm", "--minutes", "1", "--seed", str(seed), "--out", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    assert (ledger["lost"], ledger["wrong"], ledger["crossed"], ledger["keys_left"]) == (0, 0, 0, [])
    assert ledger["answered"] > 1000

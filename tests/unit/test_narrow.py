"""A program that asks for AVX-512 by CPUID is told that there is none, and everything else as it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.perf.narrow import copies

pytestmark = pytest.mark.skipif(not copies.can_be_made(), reason="needs x86-64 Linux, gcc and binutils")

PROGRAM = """
#include <cpuid.h>
#include <stdio.h>
int main(void) {
    unsigned a, b, c, d;
    __cpuid_count(7, 0, a, b, c, d);
    printf("%u %u\\n", b >> 16 & 1, b >> 5 & 1);
    __cpuid(0, a, b, c, d);
    printf("%u %u %u\\n", b, c, d);
    return 0;
}
"""


def test_a_program_is_told_that_there_is_no_avx512(tmp_path: Path) -> None:
    source, program, narrow, answers = (tmp_path / name for name in ("p.c", "p", "narrow", "cpuid.so"))
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-O1", "-o", str(program), str(source)], check=True)
    shutil.copy(program, narrow)
    assert copies.forbid(narrow) >= 2
    copies.compile_answers(answers)
    [truth, vendor] = subprocess.run([str(program)], capture_output=True, check=True).stdout.splitlines()
    told = subprocess.run([str(narrow)], env={"LD_PRELOAD": str(answers)}, capture_output=True, check=True)
    has_avx2 = truth.split()[1]
    assert told.stdout.splitlines() == [b"0 " + has_avx2, vendor]
    alone = subprocess.run([str(narrow)], check=False)
    assert alone.returncode < 0  # nobody answers

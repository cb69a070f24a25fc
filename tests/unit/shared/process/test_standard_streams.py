"""Writing never raises, and in services never waits; seen from outside, on real pipes, files and closed descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import IO

import pytest

from shared.process.standard_streams import MOST_KEPT_BYTES, Outlet
from tests.children import ROOT, clean_environment
from tests.helpers import full_pipe

SERVICE = "from shared.process import standard_streams; standard_streams.secure(patient=False)\n"
COMMAND = "from shared.process import standard_streams; standard_streams.secure(patient=True)\n"
END = "\nimport os; os.write(2, b'reached the end')\n"


def run(code: str, stdout: int | IO[bytes], **settings: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=30,
    )


@pytest.mark.parametrize("start", [SERVICE, COMMAND])
def test_a_full_disk_a_reader_that_left_and_a_closed_output_raise_nothing(start: str) -> None:
    code = f"{start}print('x' * 100_000, flush=True); print('more')" + END
    with open("/dev/full", "wb") as full:
        done = run(code, stdout=full)
        assert (done.returncode, done.stderr) == (0, b"reached the end")
    reading, writing = os.pipe()
    os.close(reading)
    done = run(code, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"reached the end")
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code], cwd=ROOT, stderr=subprocess.PIPE, timeout=30
    )
    assert (closed.returncode, closed.stderr) == (0, b"reached the end")


def test_a_closed_descriptor_is_taken_before_a_file_can_get_its_number() -> None:
    code = f"{SERVICE}import tempfile; file = tempfile.TemporaryFile(); print('not in there', flush=True)\n"
    code += "import sys; file.seek(0); os_says = file.read(); sys.exit(len(os_says) or file.fileno() < 3)"
    closed = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], cwd=ROOT, timeout=30)
    assert closed.returncode == 0


def test_a_service_does_not_wait_for_a_reader_that_never_comes_not_even_at_its_end() -> None:
    with full_pipe() as (_, writing):
        done = run(
            f"{SERVICE}print('x' * {3 * MOST_KEPT_BYTES}); [print(i) for i in range(1000)]" + END, stdout=writing
        )
    assert (done.returncode, done.stderr) == (0, b"reached the end")


@pytest.mark.parametrize("start", [SERVICE, COMMAND])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_shown_by_its_number(start: str, encoding: str) -> None:
    code = f"{start}print('modèle 模型 \\udcff')\nimport sys; print('模', file=sys.stderr)"
    done = run(code, stdout=subprocess.PIPE, PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert done.stdout.decode(encoding) == "modèle 模型 \udcff\n".encode(encoding, "backslashreplace").decode(encoding)
    assert done.stderr.decode(encoding) == "模\n".encode(encoding, "backslashreplace").decode(encoding)


@pytest.mark.parametrize("start", [SERVICE, COMMAND])
def test_a_reader_that_is_slow_gets_everything_in_order(start: str) -> None:
    code = f"{start}[print(i) for i in range(50_000)]"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = process.stdout.read().split()
    assert lines == [b"%d" % number for number in range(50_000)]


def test_what_was_lost_is_told_once_there_is_a_reader() -> None:
    with full_pipe() as (reading, writing):
        outlet = Outlet(writing, most_bytes=100)
        outlet.write(b"kept\n")
        outlet.write(b"y" * 200)
        outlet.write(b"z" * 200)
        read = bytearray()
        drain = threading.Thread(target=lambda: read.extend(os.read(reading, 1 << 20)))
        drain.start()
        assert outlet.drain(10.0)
        outlet.write(b"heard\n")
        drain.join()
        os.set_blocking(reading, False)
        read += os.read(reading, 1 << 20)
    assert bytes(read).strip(b"x") == b"kept\n[2 pieces of output were lost.]\nheard\n"


def test_a_command_whose_output_is_lost_says_so_and_one_whose_reader_left_does_not() -> None:
    command = [sys.executable, "-m", "headrace", "acl", "print", "--json"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=30)
    assert done.returncode == 1
    assert done.stderr == b"headrace: The output could not be written: No space left on device.\n"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=30)
    os.close(writing)
    assert done.stderr == b""


def test_a_process_that_is_forked_writes_its_own_and_nothing_twice() -> None:
    fork = "import os\nprint('parent')\npid = os.fork()\nif pid == 0: print('child'); os._exit(0)\nos.waitpid(pid, 0)"
    done = run(SERVICE + fork, stdout=subprocess.PIPE)
    assert sorted(done.stdout.split()) == [b"child", b"parent"]


def test_a_long_piece_costs_as_much_as_many_short_ones() -> None:
    megabyte = 1 << 20
    with open(os.devnull, "wb") as null:
        outlet = Outlet(null.fileno())

        def took_s(pieces: int, size: int) -> float:
            piece, begun_s = bytes(size), time.process_time()
            for _ in range(pieces):
                outlet.write(piece)
            return time.process_time() - begun_s

        took_s(1, megabyte)
        assert took_s(1, 48 * megabyte) < 8 * took_s(48, megabyte)


CLOSED = {
    "descriptors": "os.close(0); os.close(1); os.close(2)",
    "streams": "sys.stdout.close(); sys.stderr.close()",
    "names": "sys.stdout = sys.stderr = None",
}


@pytest.mark.parametrize("how", CLOSED)
def test_what_foreign_code_closes_is_open_again_and_no_socket_gets_its_number(how: str) -> None:
    code = f"import os, socket, sys\n{SERVICE}{CLOSED[how]}\nstandard_streams.put_back()\nsocket = socket.socket()\n"
    code += "print('printed', socket.fileno() > 2)\nprint('told', file=sys.stderr)\nos.write(1, b'written')"
    done = run(code, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"printed True\nwritten", b"told\n")


def test_the_log_goes_on_where_foreign_code_redirects_or_silences_it() -> None:
    code = (
        f"import logging, logging.config, os, sys\n{SERVICE}"
        "from shared.process import logs\nlogs.configure('info', 'text')\n"
        "log = logging.getLogger('consumer.worker')\n"
        "null = os.open(os.devnull, os.O_RDWR)\nos.dup2(null, 2)\nsys.stderr.close()\n"
        "logging.config.dictConfig({'version': 1})\nlogging.basicConfig(force=True, handlers=[logging.NullHandler()])\n"
        "logging.disable()\nlogging.getLogger().setLevel('CRITICAL')\nlogs.put_back()\nlog.info('still here')\n"
        "logging.getLogger('theirs').error('as they want it')\n"
    )
    done = run(code, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.endswith(b"INFO consumer.worker: still here\n")
    assert done.stderr.count(b"\n") == 1

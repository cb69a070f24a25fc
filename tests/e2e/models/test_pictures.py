"""What a picture costs on its way, counted: a consumer whose model brings no torch keeps freed memory, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, encode_request
from tests.e2e.stack import Process, Stack, echo_models

PICTURE = bytes(150_528)
PICTURE_PAGES = len(PICTURE) // 4096
COUNT = 200


def _send(url: str, model: str, name: str) -> None:
    """Send pictures and wait for the answers, which are as large, without a front end."""
    with connect(url) as client:
        pipeline = client.pipeline(transaction=False)
        ids = [f"{name}-{number}" for number in range(COUNT)]
        for request_id in ids:
            message = encode_request(Request(request_id, 30_000, "application/octet-stream", PICTURE))
            pipeline.xadd(keys.work(model, "default"), {"m": message}, nomkstream=True)
        pipeline.execute()
        for request_id in ids:
            assert client.blpop([keys.reply(model, "default", request_id)], 30) is not None


def _faults(process: Process) -> int:
    return int(Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()[7])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux counts the faults of a process")
def test_pictures_that_come_and_go_are_not_faulted_in_each_time(
    valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    with Stack(valkey_url, echo_models(tmp_path, model_name)) as stack:
        consumer = stack.start_consumer(model_name)
        _send(valkey_url, model_name, "first")
        before = _faults(consumer)
        _send(valkey_url, model_name, "then")
        assert _faults(consumer) - before < COUNT * PICTURE_PAGES / 10

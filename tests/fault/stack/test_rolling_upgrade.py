"""A rolling upgrade: processes of before and of now serve side by side under load, and no client notices."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import tarfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest

from shared import keys
from shared.redis import library
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.children import ROOT
from tests.e2e.stack import Process, Stack, call, echo_models
from tests.embedded import EmbeddedServer
from tests.helpers import Crew, eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

ONLY_BEFORE = "shared/functions.lua"
"""A file that is in no checkout of now; the newest commit that has it is the one before the folders were made."""

PROGRAMS = ("consumer", "producer_api", "shared", "headrace")
CLIENTS = 2
ANSWERS = 12
"""So many more each client must get before anything else happens."""

RAW = "application/octet-stream"
SETTINGS = {"LEASE_MS": "1500", "DEFAULT_TIMEOUT_MS": "30000"}


def git(*arguments: str) -> bytes:
    """Return what git prints; nothing where it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, timeout=30, check=False)
    except OSError:
        return b""
    return done.stdout if done.returncode == 0 else b""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of before."""
    moved = git("log", "-1", "--no-renames", "--diff-filter=D", "--format=%H", "--", ONLY_BEFORE).decode().strip()
    archive = git("archive", f"{moved}^", *PROGRAMS) if moved else b""
    if not archive:
        pytest.skip(f"the history has no commit with {ONLY_BEFORE}; a shallow clone lacks it")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


class Load(Crew):
    """Threads that ask on and on, each until its last answer is there when the block ends.

    Attributes:
        wrong: every answer that was not the right one.
    """

    def __init__(self, name: str, model: str) -> None:
        self.name, self.model = name, model
        self.wrong: list[str] = []
        self._answered = [0] * CLIENTS
        super().__init__(partial(self._ask_on, number) for number in range(CLIENTS))

    def ask(self, name: str, rng: random.Random) -> None:
        """Send one request, and check its answer."""
        raise NotImplementedError

    def check(self, name: str, answer: object, expected: object) -> None:
        """Note an answer that is not the right one."""
        if answer != expected:
            self.wrong.append(f"{name}: {answer!r:.300}")

    def more(self) -> None:
        """Wait until each client has had some more answers."""
        enough = [count + ANSWERS for count in self._answered]
        eventually(lambda: all(a >= b for a, b in zip(self._answered, enough, strict=True)) or self.wrong, 50.0)
        assert self.wrong == []

    def _ask_on(self, number: int) -> None:
        rng = random.Random(number)
        while not self.over.is_set():
            name = f"{self.name}-{number}-{self._answered[number]}"
            try:
                self.ask(name, rng)
            except Exception as error:
                self.wrong.append(f"{name}: {error!r}")
            self._answered[number] += 1


class RestLoad(Load):
    """Clients of one front end. The bodies are short ones, and some that go through shared memory."""

    def __init__(self, name: str, model: str, url: str) -> None:
        super().__init__(name, model)
        self._url = f"{url}/v1/models/{model}/predict"

    def ask(self, name: str, rng: random.Random) -> None:
        body = rng.randbytes(rng.choice((3, 3, 40_000)))
        kind = rng.randrange(3)
        if kind == 0:
            self._post(name, body, body, RAW)
        elif kind == 1:  # the second time its stored reply is the answer, whoever has written it
            self._post(name, body, body, RAW, f"?id={name}")
            self._post(name, body, body, RAW, f"?id={name}")
        else:
            data = list(body[:3])
            tensor = {"name": "input", "datatype": "UINT8", "shape": [1, len(data)], "data": data}
            self._post(name, json.dumps({"inputs": [tensor]}).encode(), bytes(data), "application/json")

    def _post(self, name: str, sent: bytes, expected: bytes, content_type: str, query: str = "") -> None:
        answer = call(f"{self._url}{query}", sent, content_type, timeout_s=45.0)
        if answer.status != 200:
            self.check(name, answer, "an answer")
        else:
            self.check(name, bytes(answer.body["outputs"][0]["data"]), expected)


class DirectLoad(Load):
    """Direct producers, in the simple tier of docs/protocol.md."""

    def __init__(self, name: str, model: str, redis_url: str) -> None:
        super().__init__(name, model)
        self._redis = connect(redis_url, 45.0)

    def ask(self, name: str, rng: random.Random) -> None:
        body = rng.randbytes(9)
        message: Any = msgpack.packb({"v": 1, "id": name, "ttl_ms": 30_000, "ct": RAW, "body": body})
        self._redis.xadd(keys.work(self.model, "default"), {"m": message}, nomkstream=True)
        found: Any = self._redis.blpop([keys.reply(self.model, "default", name)], 40)
        self.check(name, found and msgpack.unpackb(found[1])["outputs"][0]["data"], body)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._redis.close()


@pytest.mark.soak  # two versions side by side are in tests/fault/consumer/test_bad_messages.py
def test_row_27_a_rolling_upgrade_and_back(before: Path, tmp_path: Path, model_name: str) -> None:
    with ExitStack() as ending:
        config = ServerConfig(tmp_path / "server", free_port(), appendonly="no", maxmemory_mb=128)
        url = ending.enter_context(EmbeddedServer(config)).url
        redis = ending.enter_context(connect(url))
        models = echo_models(tmp_path, model_name)
        old, new = (ending.enter_context(Stack(url, models, **SETTINGS)) for _ in range(2))
        old.root = before
        loads: list[Load] = []

        def more(*stopped: Process) -> None:
            """End processes, and see that everybody is answered as before."""
            for process in stopped:
                assert process.terminate() == 0
            for load in loads:
                load.more()

        def functions_are_ours() -> bool:
            listed = redis.execute_command("FUNCTION", "LIST", "LIBRARYNAME", library.NAME, "WITHCODE")
            return library.library_code(listed) == library.source()

        old_front_end = old.start_front_end()
        old_consumer = old.start_consumer(model_name)
        old.wait(model_name)
        assert not functions_are_ours()
        with ExitStack() as old_clients:
            loads.append(ending.enter_context(DirectLoad("direct", model_name, url)))
            loads.append(old_clients.enter_context(RestLoad("old", model_name, old.url)))
            more()
            new_consumer = new.start_consumer(model_name)
            assert functions_are_ours()
            more(old_consumer)  # an old front end, new consumers
            new.start_front_end()
            new.wait(model_name)
            loads.append(ending.enter_context(RestLoad("new", model_name, new.url)))
            more()
            old_consumer = old.start_consumer(model_name)  # one that was restarted
            more()
            eventually(functions_are_ours)
            more(new_consumer)  # a new front end, old consumers
            assert functions_are_ours()
            new.start_consumer(model_name)
            old_consumer.signal(signal.SIGKILL)
            more()
            old_load = loads.pop(1)
        assert old_load.wrong == []
        more(old_front_end)
        work, dead = keys.work(model_name, "default"), keys.dead_letters(model_name, "default")
        for load in loads:
            load.__exit__()
            assert load.wrong == []
        pending: Any = redis.xpending(work, keys.GROUP)
        assert (redis.xlen(work), pending["pending"], redis.xlen(dead)) == (0, 0, 0)

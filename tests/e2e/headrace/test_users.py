"""A stack in which each process is a user of its own in Redis, as the compose file has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from headrace.redis import acl, users
from shared import keys
from shared.redis import functions, library
from shared.redis.client import RedisError, connect
from shared.redis.embedded import HOST, ServerConfig, answers, dies_with_parent, find_server, free_port, server_argv
from tests.contract.redis.test_acl import has_redis_7
from tests.e2e.stack import Stack, call, echo_models
from tests.helpers import eventually
from tests.unit.headrace.operators import headrace


class Place:
    """A server that reads a folder of users."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def url(self, role: str) -> str:
        return f"redis://{role}@{HOST}:{self.port}/0?password_file={self.folder}/{role}/password"

    def password(self, role: str) -> str:
        return (self.folder / role / "password").read_text().strip()


@pytest.fixture(params=["valkey", "redis7"])
def executable(request: pytest.FixtureRequest) -> Path:
    if request.param == "valkey":
        return find_server()
    if not has_redis_7():
        pytest.skip("no redis-server of version 7 is installed")
    return Path(shutil.which("redis-server") or "")


@contextmanager
def running(executable: Path, folder: Path, config: ServerConfig) -> Iterator[Place]:
    """A server with the users of ``folder``; killed at the end."""
    rules = ("--aclfile", str(folder / "server" / "users.acl"))
    server = subprocess.Popen(
        [*server_argv(executable, config), *rules], stdout=subprocess.DEVNULL, preexec_fn=dies_with_parent()
    )
    made = Place(folder, config.port)
    try:
        eventually(lambda: server.poll() is not None or _is_up(made))
        assert server.poll() is None
        yield made
    finally:
        server.kill()
        server.wait()


def _configured(tmp_path: Path, appendonly: str) -> tuple[Path, ServerConfig]:
    folder, config = tmp_path / "access", ServerConfig(tmp_path / "redis", free_port(), appendonly, 64)
    config.data_dir.mkdir()
    users.write(folder, {})
    return folder, config


@pytest.fixture
def place(executable: Path, tmp_path: Path) -> Iterator[Place]:
    with running(executable, *_configured(tmp_path, "no")) as made:
        with connect(made.url("administrator")) as client:
            library.load(client)
        yield made


def _is_up(place: Place) -> bool:
    try:
        with connect(place.url("health")) as client:
            return bool(client.ping())
    except RedisError:
        return False


def test_a_whole_stack_needs_no_right_that_it_has_not(place: Place, tmp_path: Path, model_name: str) -> None:
    assert not answers(place.port)  # who gives no name and password
    with (
        Stack(place.url("front_end"), echo_models(tmp_path, model_name)) as stack,
        connect(place.url("administrator")) as administrator,
    ):
        stack.start_front_end()
        consumer = stack.start_consumer(model_name, REDIS_URL=place.url("consumer"))
        stack.wait(model_name)
        assert stack.predict(model_name, b"x").status == 200
        assert stack.predict(model_name, b"y" * 40_000).status == 200
        assert [stack.predict(model_name, b"x", query="?id=mine").status for _ in range(2)] == [200, 200]
        assert stack.ended(consumer, "ok") >= 3
        place_of_letters = keys.dead_letters(model_name, "default")
        administrator.xadd(place_of_letters, {"reason": "unreadable", "m": b"\xc1"})
        operator = place.url("operator")
        for command in (
            ("status", "--interval", "0", "--json"),
            ("doctor", "--json"),
            ("dlq", "list", model_name, "--json"),
            ("pause", model_name, "--json"),
            ("drain", model_name, "--json"),
            ("resume", model_name, "--json"),
            ("precision", model_name, "--json"),
            ("dlq", "requeue", model_name, "--all", "--yes", "--json"),
            ("lane", "create", model_name, "gold", "--limit", "10", "--json"),
            ("lane", "limit", model_name, "gold", "20", "--json"),
            ("lane", "list", model_name, "--json"),
            ("lane", "repair", model_name, "gold", "--yes", "--json"),
            ("lane", "remove", model_name, "gold", "--yes", "--json"),
        ):
            said = headrace(operator, *command)
            assert (said.code, said.err.count("NOPERM")) == (0, 0), said
        assert headrace(operator, "pause", model_name).code == 0
        one = f"{stack.url}/v1/models/{model_name}/requests/taken-back"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(stack.predict, model_name, b"z", query="?id=taken-back")
            eventually(lambda: call(one).status == 202)
            with urlopen(Request(one, method="DELETE"), timeout=10) as taken:
                assert taken.status == 200
            assert waiting.result().body["error"]["code"] == "cancelled"
        assert headrace(operator, "resume", model_name).code == 0
        eventually(lambda: administrator.xlen(place_of_letters) == 1)  # unreadable, so it is given up again
        assert headrace(operator, "dlq", "drop", model_name, "--all", "--yes").code == 0
        eventually(lambda: call(f"{stack.url}/readyz").status == 200)
        assert consumer.terminate() == 0
        said_by = {one["user"] for one in administrator.client_list()}
        assert said_by <= {"front_end", "administrator"}
        refused = {
            (one[b"username"], one[b"object"]) for one in map(_fields, administrator.execute_command("ACL", "LOG"))
        }
    # A consumer tries whether it may load the functions; `doctor` looks at what only the administrator sees.
    allowed = {(b"consumer", b"function|load"), (b"operator", b"function|list"), (b"operator", b"acl|list")}
    assert {one for one in refused if one[0] != b"default"} <= allowed


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_what_was_accepted_is_there_after_a_restart(executable: Path, tmp_path: Path, model_name: str) -> None:
    """Redis 7 replays what a function wrote as the default user, although nobody may be that."""
    folder, config = _configured(tmp_path, "always")
    work = keys.work(model_name, keys.DEFAULT_LANE)
    with running(executable, folder, config) as place:
        with connect(place.url("administrator")) as client:
            library.load(client)
        with connect(place.url("consumer")) as client:
            client.execute_command(*functions.heartbeat(work, "w1", 5000, 100, {}, {}))
        with connect(place.url("front_end")) as client:
            for name in ("a", "b"):
                request = (name, functions.NOT_ASKED_BEFORE, b"message")
                assert client.execute_command(*functions.admit(work, 100, "fe", "0-0", (), [request]))[1]
    with running(executable, folder, config) as place, connect(place.url("administrator")) as client:
        assert client.xlen(work) == 2
        assert [group["name"] for group in client.xinfo_groups(work)] == [keys.GROUP.encode()]
        assert client.exists(keys.lanes(model_name))
        assert not answers(config.port)  # who gives no name and password is nobody still
        for given in ("default:x@", ":x@"):
            with connect(f"redis://{given}{HOST}:{config.port}") as stranger, pytest.raises(RedisError):
                stranger.ping()


def test_passwords_stay_change_on_demand_and_open_connections_find_the_new_one(place: Place) -> None:
    before = {role: place.password(role) for role in acl.ROLES}
    assert len(set(before.values())) == len(acl.ROLES)
    users.write(place.folder, {"REDIS_PASSWORD_OPERATOR": "a-long-enough-password"})
    after = {role: place.password(role) for role in acl.ROLES}
    assert after == {**before, "operator": "a-long-enough-password"}
    with connect(place.url("operator")) as client:
        with pytest.raises(RedisError):
            client.ping()
        done = headrace(place.url("administrator"), "acl", "load")
        assert (done.code, done.out) == (0, "headrace: the users are loaded.\n")
        assert headrace(place.url("administrator"), "acl", "load", "--json").json == {"loaded": "users"}
        assert client.ping()


@pytest.mark.parametrize(
    "password", ["short", "with a space in it, and long", "ümlaut-and-long-enough", "line\nbreak-and-long"]
)
def test_a_password_that_cannot_be_used_is_refused_and_not_shown(tmp_path: Path, password: str) -> None:
    said = headrace("redis://127.0.0.1:1/0", "acl", "write", str(tmp_path), REDIS_PASSWORD_CONSUMER=password)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "REDIS_PASSWORD_CONSUMER must have 16" in said.err
    assert password not in said.err


def test_files_are_readable_by_those_who_must_and_hold_no_password(tmp_path: Path) -> None:
    said = headrace("redis://127.0.0.1:1/0", "acl", "write", str(tmp_path))
    assert (said.code, said.out) == (0, "headrace: the users are written.\n")
    rules = (tmp_path / "server" / "users.acl").read_text()
    assert rules.startswith("user default reset off ")
    for role in acl.ROLES:
        place = tmp_path / role / "password"
        assert place.stat().st_mode & 0o777 == 0o400
        assert place.read_text().strip() not in rules
    assert (tmp_path / "server" / "users.acl").stat().st_mode & 0o777 == 0o444


def test_a_direct_producer_gets_a_user_and_a_bad_name_leaves_everything_as_it_was(tmp_path: Path) -> None:
    command = ("acl", "write", str(tmp_path), "--producer")
    for name, lane in (("operator", "gold"), ("server", "gold"), ("a b", "gold"), ("shop", "go:ld")):
        said = headrace("redis://127.0.0.1:1/0", *command, name, "echo", lane)
        assert (said.code, said.err.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []
    assert headrace("redis://127.0.0.1:1/0", *command, "shop", "echo", "gold").code == 0
    rules = (tmp_path / "server" / "users.acl").read_text().splitlines()
    assert [line.split()[1] for line in rules] == ["default", *acl.ROLES, "shop"]
    assert "%W~hr:{echo}:q:gold" in rules[-1]
    assert len((tmp_path / "shop" / "password").read_text()) > 30


def test_a_password_file_that_cannot_be_read_is_one_sentence(place: Place) -> None:
    os.rename(place.folder / "operator" / "password", place.folder / "operator" / "gone")
    said = headrace(place.url("operator"), "status")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "operator/password cannot be read: No such file" in said.err

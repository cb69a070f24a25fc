from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.redis import acl
from shared.api_keys import digest_of, parse
from shared.redis import functions, library
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.embedded import EmbeddedServer
from tests.unit.headrace.operators import headrace
from tests.unit.headrace.stacks import Running

HEADRACE = [sys.executable, "-m", "headrace"]
LOAD = [*HEADRACE, "functions", "load"]


def test_functions_load_loads_them_as_often_as_one_likes(tmp_path: Path) -> None:
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "no")) as server:
        for _ in range(2):
            with Running(LOAD, {"HEADRACE_REDIS_URL": server.url}) as command:
                assert command.end() == 0
                assert command.lines == ["headrace: the functions are loaded."]
        with connect(server.url) as client:
            assert functions.ADMIT in str(client.execute_command("FUNCTION", "LIST"))  # a dump is compressed


def test_functions_load_needs_to_know_the_server() -> None:
    with Running(LOAD) as command:
        assert command.end() == 2
        assert command.lines == [
            "headrace: HEADRACE_REDIS_URL is not set, so there is no server to load the functions into."
        ]


def test_functions_load_says_in_one_line_that_the_server_is_away() -> None:
    with Running(LOAD, {"HEADRACE_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}) as command:
        assert command.end() == 1
        assert len(command.lines) == 1
        assert command.lines[0].startswith("headrace: The functions could not be loaded")


def test_a_command_says_that_no_redis_answers_and_where() -> None:
    said = headrace("redis://127.0.0.1:1/0", "models")
    assert said.code == 1
    assert said.err.startswith("headrace: No Redis answers at redis://127.0.0.1:1/0 (")


def test_functions_load_waits_for_a_server_that_is_on_its_way(tmp_path: Path) -> None:
    """In compose it starts beside the server."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        config = ServerConfig(tmp_path, nobody.getsockname()[1], "no")
        command = Running([*LOAD, "--wait", "50"], {"HEADRACE_REDIS_URL": f"redis://127.0.0.1:{config.port}/0"})
        nobody.accept()[0].close()  # it has asked, and was not answered
    with command, EmbeddedServer(config) as server:
        assert command.end() == 0
        with connect(server.url) as client:
            assert functions.ADMIT in str(client.execute_command("FUNCTION", "LIST"))
    assert command.lines == ["headrace: the functions are loaded."]


@pytest.mark.parametrize("command", [("functions", "load"), ("acl", "load")])
def test_what_waits_for_a_server_does_not_wait_for_ever(command: tuple[str, ...]) -> None:
    said = headrace(f"redis://127.0.0.1:{free_port()}/0", *command, "--wait", "0.3")
    assert said.code == 1
    assert said.err.startswith("headrace: The ")


def test_a_server_that_answers_is_not_waited_for_whatever_it_says(tmp_path: Path) -> None:
    """Whom it does not let in, it will not let in later."""
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "no")) as server:
        with connect(server.url) as client:
            client.execute_command("ACL", "SETUSER", "nobody", "on", "nopass", "-@all")
        url = server.url.replace("redis://", "redis://nobody:x@")
        said = headrace(url, "functions", "load", "--wait", "3600")
        assert said.code == 1
        assert "permission" in said.err.lower()


def test_the_command_line_imports_nothing_of_the_supervisor_for_other_commands() -> None:
    """Health checks run it every few seconds."""
    program = "import sys, headrace.__main__; print({'asyncio', 'headrace.stack.supervisor', 'redis'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def test_an_unknown_command_is_exit_2_and_help_is_not() -> None:
    assert subprocess.run([*HEADRACE, "down"], capture_output=True).returncode == 2
    shown = subprocess.run([*HEADRACE, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0
    assert "up " in shown.stdout


def test_keys_new_prints_the_key_and_apart_from_it_the_line_for_the_file() -> None:
    made = subprocess.run([*HEADRACE, "keys", "new", "alice"], capture_output=True, text=True, check=True)
    [key] = parse(made.stderr)
    assert key.name == "alice"
    assert key.digest == digest_of(made.stdout.strip().encode())
    assert made.stdout.strip() not in made.stderr


def test_keys_new_takes_only_names() -> None:
    refused = subprocess.run([*HEADRACE, "keys", "new", "a b"], capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_keys_new_says_all_of_it_as_json(tmp_path: Path) -> None:
    made = headrace("redis://127.0.0.1:1/0", "keys", "new", "alice", "--json")
    assert made.err == ""
    assert made.json["sha256"] == digest_of(made.json["key"].encode()).hex()
    assert (made.json["name"], made.json["file"]) == ("alice", None)


def test_what_loads_and_writes_says_so_as_json(tmp_path: Path) -> None:
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "no")) as server:
        assert headrace(server.url, "functions", "load", "--json").json == {"loaded": list(library.names())}
    written = headrace("redis://127.0.0.1:1/0", "acl", "write", str(tmp_path), "--producer", "shop", "m", "l", "--json")
    assert written.json == {"folder": str(tmp_path), "users": [*acl.ROLES, "shop"]}

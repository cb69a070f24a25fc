"""Who may replace the functions on the server: several versions start side by side, and the newest stays."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from shared import keys
from shared.redis import functions, library
from shared.redis.client import Link, ServerError, SyncLink, connect, connect_async
from tests.contract.lanes import RedisLane, card


def of_version(version: int, text: str = "") -> str:
    """A library of some version."""
    _, shebang, rest = library.source().partition("#!lua name=headrace1\n")
    rest = rest.replace(f"local VERSION = {library.VERSION}\n", f"local VERSION = {version}\n", 1)
    return f"{shebang}-- version {version}\n-- {text}{rest}"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A server without functions; with ours afterwards, since others share it."""
    with connect(redis_url) as client:
        client.function_flush()
        yield client
        client.function_flush()
        library.load(client)
        assert not client.exists(keys.FUNCTIONS)


def there(client: redis.Redis) -> str | None:
    return library.library_code(client.function_list(library.NAME, withcode=True))


OURS = library.version(library.source())
WITHOUT = library.source().replace(f"-- version {OURS}\n", "", 1)


def test_every_library_has_a_version() -> None:
    assert OURS > 0
    assert library.version(WITHOUT) == 0
    assert library.version(of_version(34)) == 34
    assert library.version(of_version(34).replace("34", "3" * 40)) == 0  # a number that nobody made


@pytest.mark.parametrize(
    ("before", "is_replaced"),
    [
        (None, True),
        (WITHOUT, True),
        (of_version(OURS - 1), True),
        (of_version(OURS, "other text"), True),
        (of_version(OURS + 1), False),
    ],
    ids=["none", "without a version", "older", "other text", "newer"],
)
def test_what_is_older_is_replaced_and_what_is_newer_stays(
    client: redis.Redis, before: str | None, is_replaced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    if before:
        client.function_load(before)
    assert library.load(client) == is_replaced
    assert there(client) == (library.source() if is_replaced else before)
    said = f"The server's functions are of version {OURS + 1}, newer than {OURS}, and stay."
    assert (said in caplog.messages) == (not is_replaced)


def test_who_looked_before_a_newer_one_was_loaded_looks_again(client: redis.Redis) -> None:
    client.function_load(of_version(1))
    old, new = SyncLink(client), SyncLink(client)
    for link in (old, new):  # both start together, and both see what is to be replaced
        link.call_many(library.LOOK)
    assert new.call_many(library.replace(of_version(3)))[-1] is not None
    assert old.call_many(library.replace(of_version(2)))[-1] is None
    assert there(client) == of_version(3)
    old.close()
    new.close()


def test_many_versions_that_start_together_leave_the_newest(redis_url: str, client: redis.Redis) -> None:
    at_once = threading.Barrier(8)
    after: list[tuple[int, str | None]] = []

    def start(version: int) -> None:
        with connect(redis_url) as own:
            at_once.wait()
            library.load_code(own, of_version(version))
            after.append((version, there(own)))

    threads = [threading.Thread(target=start, args=(version,)) for version in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert there(client) == of_version(8)
    assert all(library.version(code or "") >= version for version, code in after)
    assert len(after) == 8


def test_an_older_process_that_starts_keeps_what_is_newer(redis_url: str, client: redis.Redis, model_name: str) -> None:
    newer = of_version(OURS + 1)
    client.function_load(newer)
    lane = RedisLane(model_name, redis_url)  # loads the functions, as a consumer does
    stream = lane.stream("one")
    stream.heartbeat(card(model_name), {})
    assert there(client) == newer
    stream.close()
    lane.close()


OF_BEFORE = WITHOUT.replace("'hr1_version'", "'hr1_something'")
"""As a release has them that knows of no versions, and replaces whatever it finds."""


@pytest.mark.parametrize("older", [OF_BEFORE, of_version(OURS - 1)], ids=["before versions", "older"])
def test_a_consumer_puts_its_functions_back_when_an_older_process_has_replaced_them(
    redis_url: str, client: redis.Redis, model_name: str, older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OF_BEFORE != WITHOUT
    lane = RedisLane(model_name, redis_url)
    stream = lane.stream("one")
    stream.heartbeat(card(model_name), {})
    client.function_load(older, replace=True)
    stream.heartbeat(card(model_name), {})
    assert there(client) == library.source()
    client.function_load(of_version(OURS + 1), replace=True)
    stream.heartbeat(card(model_name), {})
    assert there(client) == of_version(OURS + 1)
    tried = []

    def refused(client: redis.Redis) -> bool:
        tried.append(client)
        raise ServerError("NOPERM this user may not load functions")

    monkeypatch.setattr(library, "load", refused)
    client.function_load(older, replace=True)
    for _ in range(2):
        stream.heartbeat(card(model_name), {})
    assert len(tried) == 1  # and not again with each heartbeat
    stream.close()
    lane.close()


def test_a_front_end_that_misses_them_loads_them_once_and_sends_again_what_called_one(
    redis_url: str, client: redis.Redis, model_name: str
) -> None:
    work = keys.work(model_name, "default")

    async def main() -> list[Any]:
        connection = connect_async(redis_url)
        link = Link(connection)
        try:
            return await library.call_many(
                link, ("FCALL", functions.ASK, 1, work, "a"), ("INCR", work), ("FCALL", functions.ASK, 1, work, "b")
            )
        finally:
            await link.close()
            await connection.aclose()

    assert asyncio.run(main()) == [[b"unknown"], 1, [b"unknown"]]
    assert there(client) == library.source()
    client.unlink(work)


@pytest.mark.parametrize("lacks", ["-function", "-function|list", "-function|load", "-watch"])
def test_who_may_not_load_them_changes_nothing(redis_url: str, client: redis.Redis, lacks: str) -> None:
    client.function_load(of_version(0))
    client.execute_command("ACL", "SETUSER", "weak", "reset", "on", ">only-here", "~*", "+@all", lacks)
    with connect(redis_url.replace("//", "//weak:only-here@")) as weak, pytest.raises(ServerError, match="permissions"):
        library.load(weak)
    client.acl_deluser("weak")
    assert there(client) == of_version(0)


def test_a_library_that_cannot_be_loaded_says_why(client: redis.Redis) -> None:
    client.function_load("#!lua name=another\nredis.register_function('hr1_admit', function() return 1 end)")
    with pytest.raises(ServerError, match="hr1_admit already exists"):
        library.load(client)

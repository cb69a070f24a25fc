"""Several front ends, keys with and without a role, and a front end that keeps no history."""

from __future__ import annotations

import hashlib
import secrets
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.console_feed.streams import Events, events, get
from tests.e2e.stack import Stack, call, echo_models
from tests.helpers import eventually

pytestmark = pytest.mark.timeout(60)


def test_each_front_end_shows_what_all_have_counted(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    """Requests go to one, and the other shows them, once that has written what it has counted."""
    with Stack(valkey_url, echo_models(tmp_path, model_name)) as stack:
        stack.start_consumer(model_name)
        stack.start_front_end()
        other = stack.url
        stack.start_front_end(HISTORY_MB="1", GOODPUT_MS="1")
        stack.wait(model_name)

        def rates() -> Any:
            for _ in range(10):
                assert stack.predict(model_name, b"hello").status == 200
            line = next(one for one in get(f"{other}/console/state")["models"] if one["name"] == model_name)
            return line if line["rate"] > 1 and line["p50_ms"] else None

        line = eventually(rates, limit_s=40)
        assert line["goodput"] is not None
        assert any(get(f"{other}/console/history", model=model_name)["rate"])
        silent = stack.start_front_end(HISTORY_MB="0")
        refused = call(f"{stack.url}/console/history?model={model_name}")
        assert (refused.status, refused.body["error"]["code"]) == (404, "not_found")
        assert "HEADRACE_HISTORY_MB=0" in refused.body["error"]["message"]
        assert get(f"{stack.url}/console/state", model=model_name)["model"]["name"] == model_name
        assert "Traceback" not in silent.text()


def keys_file(path: Path, **keys: tuple[str, str]) -> None:
    """Write a file of keys: by name, the key and what else stands in its table."""
    tables = [
        f'[keys.{name}]\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n{more}\n'
        for name, (key, more) in keys.items()
    ]
    new = path.with_suffix(".new")
    new.write_text("".join(tables))
    new.replace(path)


def test_a_key_needs_a_role_and_a_stream_ends_with_its_key(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    plain, reader = (f"hr_{secrets.token_urlsafe(32)}" for _ in range(2))
    path = tmp_path / "keys.toml"
    keys_file(path, plain=(plain, ""), reader=(reader, 'console = "read"'))
    with Stack(valkey_url, echo_models(tmp_path, model_name), KEYS_FILE=str(path)) as stack:
        stack.start_consumer(model_name)
        stack.start_front_end()

        def asked(what: str, key: str = "") -> Any:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            return urllib.request.Request(f"{stack.url}/console/{what}?model={model_name}", headers=headers)

        def status(what: str, key: str = "") -> int:
            try:
                with urllib.request.urlopen(asked(what, key), timeout=20) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        eventually(lambda: status("state", reader) == 200)
        for what in ("state", "events", "history"):
            assert [status(what), status(what, plain), status(what, reader)] == [401, 403, 200], what
        with urllib.request.urlopen(asked("events", reader), timeout=30) as answer:
            stream = Events(answer)
            assert stream.next()["model"]["name"] == model_name
            keys_file(path, plain=(plain, ""))
            stream.end()
        assert status("state", reader) == 401


def test_a_front_end_that_stops_ends_all_streams(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    with Stack(valkey_url, echo_models(tmp_path, model_name)) as stack:
        stack.start_consumer(model_name)
        front_end = stack.start_front_end()
        eventually(lambda: call(f"{stack.url}/v1/models/{model_name}").status == 200)
        with events(stack.url, model=model_name) as one, events(stack.url) as other:
            first = one.next()["at_ms"]
            assert one.next()["at_ms"] > first
            assert other.next()["model"] is None
            assert front_end.terminate() == 0
            for stream in (one, other):
                stream.end()
        assert "Traceback" not in front_end.text()

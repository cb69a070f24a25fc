"""Where there is no request log, answers still explain themselves, and what is stored still says what it can."""

from __future__ import annotations

from pathlib import Path

from shared import keys
from shared.redis.client import connect
from tests.e2e.stack import Stack, call, echo_models


def test_without_a_log_what_is_stored_is_told_and_nothing_is_written(
    valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    with Stack(valkey_url, echo_models(tmp_path, model_name), REQUEST_LOG_MB="0") as stack:
        stack.start_consumer(model_name)
        stack.start_front_end()
        stack.wait(model_name)
        answer = stack.predict(model_name, b"hello", query="?id=kept-1&explain=true")
        assert answer.body["timing"]["worker"]
        (story,) = call(f"{stack.url}/v1/models/{model_name}/requests/kept-1/explain").body["found"]
        assert (story["state"], story["outcome"]) == ("answered", "ok")
        assert [span["name"] for span in story["spans"]] == ["queue", "company", "run"]
        assert "The request log has nothing of it" in story["notes"][0]
        unknown = call(f"{stack.url}/v1/models/{model_name}/requests/never-came/explain")
        assert unknown.status == 404
        assert "HEADRACE_REQUEST_LOG_MB is 0" in unknown.body["error"]["message"]
        with connect(valkey_url) as client:
            assert client.exists(keys.request_log(model_name)) == 0

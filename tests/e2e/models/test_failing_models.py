"""A model that fails is told of everywhere, and the others do not notice."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.asking import local_http
from shared.api_keys import digest_of
from tests.e2e.stack import call
from tests.helpers import eventually
from tests.unit.headrace.operators import Said, headrace
from tests.unit.headrace.stacks import Running, own_stack

UP = [sys.executable, "-m", "headrace", "up"]


def _environment(folder: Path, how: str, models: str, **changes: str) -> dict[str, str]:
    table = '[models.{}]\nfamily = "python"\n'
    table += 'entry = "tests.e2e.models.broken:create"\noptions = {{ file = "{}", how = "{}" }}\n'
    text = '[models.echo]\nfamily = "echo"\n' + table.format("broken", folder / "weights", how)
    (folder / "models.toml").write_text(text)
    return {**own_stack(folder, models), **changes}


def _addresses(stack: Running) -> tuple[str, str]:
    """Wait for the banner; the addresses of the front end and of Redis."""
    url = stack.until(r"API +(http://\S+)").group(1)
    redis_url = stack.until(r"Redis +(redis://\S+)").group(1)
    stack.until(r"Ctrl-C stops everything")
    return url, redis_url


def _status(redis_url: str) -> Said:
    return headrace(redis_url, "status", "--interval", "0", "--json")


@pytest.mark.timeout(120)
def test_a_model_that_cannot_be_loaded_is_shown_as_failed_and_the_other_serves(tmp_path: Path) -> None:
    # What the model prints, ASCII cannot say.
    with Running(UP, _environment(tmp_path, "kill", "echo,broken", PYTHONIOENCODING="ascii")) as stack:
        url, redis_url = _addresses(stack)
        assert re.search(r"has run the samples of echo\.\n +FAILED +broken: consumer broken", stack.output)
        assert "consumer broken ended with code 137;" in stack.output

        def ready() -> dict[str, dict[str, Any]]:
            models = {model["name"]: model for model in call(f"{url}/readyz").body["models"]}
            return models if "failures" in models.get("broken", {}) else {}

        models = eventually(ready)
        assert call(f"{url}/readyz").status == 200
        assert (models["echo"]["ready"], models["broken"]["ready"]) == (True, False)
        assert "failures" not in models["echo"]
        assert re.match(
            r"It ended (once|\d+ times in a row), last with exit status \d+;", models["broken"]["failures"][0]
        )
        refused = call(f"{url}/v1/models/broken/predict", b"x", "application/octet-stream")
        assert (refused.status, refused.body["error"]["code"]) == (503, "no_worker")
        assert call(f"{url}/v1/models/echo/predict", b"x", "application/octet-stream").status == 200
        port = int(url.rpartition(":")[2])
        metrics = local_http.ask("127.0.0.1", port, "/metrics", 10.0).body.decode()
        assert 'headrace_failed_consumers{model="broken"} 1.0' in metrics
        assert 'headrace_failed_consumers{model="echo"} 0.0' in metrics
        [failed] = [one for one in _status(redis_url).json["models"] if one["model"] == "broken"]
        assert failed["failures"][0]["deaths"] >= 1
        text = headrace(redis_url, "status", "--interval", "0").out
        assert re.search(r"broken +failed ", text), text
        doctor = headrace(redis_url, "doctor", "--json")
        assert doctor.code == 1
        assert any(one["check"] == "model broken" and one["state"] == "problem" for one in doctor.json["findings"])

        (tmp_path / "weights").touch()
        stack.until(r"headrace: consumer broken runs again\.")
        eventually(lambda: call(f"{url}/v1/models/broken/predict", b"x", "application/octet-stream").status == 200)
        eventually(lambda: not any("failures" in one for one in call(f"{url}/readyz").body["models"]))
        assert not any(one["failures"] for one in _status(redis_url).json["models"])
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        assert "consumer echo ended" not in stack.output


@pytest.mark.soak
def test_without_any_model_the_stack_stays_and_says_so(tmp_path: Path) -> None:
    with Running(UP, _environment(tmp_path, "raise", "broken")) as stack:
        url, _ = _addresses(stack)
        assert re.search(r"Headrace runs after [\d.]+ s, but no model is ready\.\n +FAILED +broken: ", stack.output)

        def reasons() -> list[str]:
            state = call(f"{url}/readyz")
            return state.body["reasons"] if state.status == 503 and "has failed" in str(state.body["reasons"]) else []

        assert eventually(reasons)[0].startswith("Model broken has failed. It ")
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0


def test_who_has_no_key_is_not_told_which_model_failed(tmp_path: Path) -> None:
    key = "k" * 43
    (tmp_path / "keys.toml").write_text(f'[keys.me]\nsha256 = "{digest_of(key.encode()).hex()}"\n')
    environment = _environment(tmp_path, "raise", "broken", HEADRACE_KEYS_FILE=str(tmp_path / "keys.toml"))
    with Running(UP, environment) as stack:
        url, redis_url = _addresses(stack)
        eventually(lambda: any(one["failures"] for one in _status(redis_url).json["models"]))
        probed = headrace(redis_url, "probe", HEADRACE_PORT=url.rpartition(":")[2])
        assert probed.code == 1
        assert "broken" not in probed.err
        assert "broken" not in json.dumps(call(f"{url}/readyz").body)

"""A consumer that takes work and answers none lives, beats, and is no use: everybody who is asked says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from tests.children import ROOT, clean_environment
from tests.e2e.stack import call
from tests.fault.redis.servers import server_in
from tests.fault.site import Site, metric, wait_until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


def doctor(site: Site) -> tuple[int, list[str]]:
    """Its exit status, and the problems it found."""
    ran = subprocess.run(
        [sys.executable, "-m", "headrace", "doctor", "--json"],
        cwd=ROOT,
        env=clean_environment(HEADRACE_REDIS_URL=site.url, HEADRACE_LEASE_MS="1000"),
        capture_output=True,
        text=True,
        timeout=30,
    )
    found = json.loads(ran.stdout)["findings"]
    return ran.returncode, [one["detail"] for one in found if one["state"] == "problem"]


def readiness(site: Site) -> tuple[int, Any]:
    answer = call(f"{site.stack.url}/readyz")
    return answer.status, answer.body


def beat_ms(site: Site) -> int:
    """When the consumer's heart last beat, on Redis's clock."""
    seen: Any = site.redis.zrange(keys.workers(site.model), 0, -1, withscores=True)
    return int(seen[0][1])


@pytest.fixture
def site(tmp_path: Path, model_name: str) -> Iterator[Site]:
    """A stack on a server of its own: /readyz and doctor speak of every model of a server."""
    with (
        server_in(tmp_path / "server") as server,
        Site(server.url, model_name, tmp_path, LEASE_MS="1000", LONGEST_BATCH_MS="100000", WINDOW_MS="0") as made,
    ):
        made.front_end()
        yield made


def test_who_takes_work_and_answers_none_is_not_ready_until_it_does(site: Site) -> None:
    consumer = site.consumer()
    wait_until(site.ready)
    series = f'headrace_late_seconds{{model="{site.model}"}}'
    assert metric(site.stack, consumer, series) == 0
    held = site.hold()
    assert site.ask(b"hold", timeout_ms=300).status == 504
    wait_until(lambda: readiness(site)[0] == 503)
    reasons, [mine] = (readiness(site)[1][name] for name in ("reasons", "models"))
    assert f"Requests are taken and none is answered: {site.model}." in reasons
    assert (mine["ready"], mine["workers"]) == (False, 1)
    assert metric(site.stack, consumer, series) >= 1
    status, problems = doctor(site)
    assert status == 1
    assert [site.model for one in problems if "takes requests and has answered none for" in one] == [site.model]
    held.unlink()
    wait_until(site.ready)
    assert site.ask(b"good").status == 200
    wait_until(lambda: metric(site.stack, consumer, series) == 0)
    assert not [one for one in doctor(site)[1] if "answered none" in one]
    assert consumer.popen.poll() is None


def test_a_long_batch_that_somebody_waits_for_leaves_it_ready(site: Site) -> None:
    site.consumer()
    wait_until(site.ready)
    held = site.hold()
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(site.ask, b"hold", timeout_ms=60_000)
        wait_until(lambda: site.runs_of("hold"))
        assert site.ask(b"hasty", timeout_ms=300).status == 504
        first_ms = beat_ms(site)
        for beats in range(1, 6):  # each as long as the grace
            wait_until(lambda passed_ms=1000 * beats: beat_ms(site) - first_ms > passed_ms)  # type: ignore[misc]
            assert readiness(site)[0] == 200
        held.unlink()
        assert patient.result().status == 200

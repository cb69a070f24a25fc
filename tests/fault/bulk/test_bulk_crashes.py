"""Whatever dies while a batch runs, each of its items has one result in the end, and its webhook comes."""

from __future__ import annotations

import signal
from base64 import b64encode
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from tests.e2e.bulk.site import Site, line, number_of, numbered
from tests.helpers import eventually
from tests.receiver import Receiver

SECRET = "whsec_" + b64encode(b"a secret of thirty-two bytes, no").decode()
HOOKS = {"WEBHOOK_SECRETS": SECRET, "PRIVATE_NETWORKS": "127.0.0.1"}


def check(site: Site, path: str, count: int) -> None:
    """Each item has its own answer, once, in both orders and in the store."""
    state = site.ended(path, limit_s=50.0)
    assert state["counts"] == {"total": count, "done": count, "failed": 0, "in_flight": 0, "waiting": 0}
    results = site.lines(path)
    assert [one["index"] for one in results] == [number_of(one) for one in results] == list(range(count))
    assert sorted(one["index"] for one in site.lines(path, "?order=completion")) == list(range(count))
    assert len(set(site.stored(path))) == count


def kill_everything(site: Site) -> None:
    """Front ends, consumers and the server, at once, without a word."""
    site.stack.close_all()
    site.server.kill()


def everything_dies(folder: Path, count: int, deaths: int) -> None:
    """Run a batch with a webhook, and kill everything some times in the middle of it."""
    with Receiver() as receiver, Site(folder, appendonly="everysec", **HOOKS) as site:
        site.start("echo")
        path = site.begin("echo", numbered(count), Headrace_Webhook=receiver.url())
        for death in range(1, deaths + 1):
            least = count * death // (deaths + 2)
            eventually(lambda least=least: site.state(path)["counts"]["done"] >= least or None)  # type: ignore[misc]
            kill_everything(site)
            assert len(set(site.stored(path))) < count, "it was over before it could be killed"
            site.server.start()
            site.start("echo")
        check(site, path, count)
        received = eventually(lambda: receiver.received[0] if receiver.received else None)
        Webhook(SECRET).verify(received.body.decode(), dict(received.headers))
        assert received.type == "batch.completed"
        assert received.document["data"]["counts"] == {"total": count, "done": count, "failed": 0}
        assert {one.headers["webhook-id"] for one in receiver.received} == {received.headers["webhook-id"]}


def test_everything_dies_in_the_middle(tmp_path: Path) -> None:
    everything_dies(tmp_path, 4000, 1)


@pytest.mark.soak
def test_everything_dies_thrice_in_the_middle_of_ten_thousand(tmp_path: Path) -> None:
    everything_dies(tmp_path, 10_000, 3)


@pytest.mark.soak  # everything dies above
def test_a_front_end_dies_while_its_items_are_in_the_lane(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        front_end = site.start()
        consumer = site.stack.start_consumer("echo")
        eventually(lambda: site.ask("GET", "/v1/models/echo").status == 200)
        consumer.signal(signal.SIGSTOP)
        path = site.begin("echo", numbered(700) + line(b"x" * 30_000))  # the last one goes past the function
        eventually(lambda: site.state(path)["counts"]["in_flight"] or None)
        front_end.close()
        consumer.signal(signal.SIGCONT)  # its answers find nobody
        site.start()
        state = site.ended(path)
        assert state["counts"]["done"] == 701
        assert [number_of(one) for one in site.lines(path)[:700]] == list(range(700))
        assert sorted(site.stored(path)) == list(range(701))


def test_a_front_end_that_stops_hands_its_batch_over(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        first = site.start("echo")
        path = site.begin("echo", numbered(6000))
        eventually(lambda: site.state(path)["counts"]["done"] or None)
        site.start()
        assert first.terminate() == 0
        check(site, path, 6000)
        assert len(site.stored(path)) == 6000  # nothing twice: what was in the lane was found there


@pytest.mark.soak
def test_a_full_store_makes_a_batch_wait_and_an_upload_fail(tmp_path: Path) -> None:
    upload = b"".join(line(bytes([number]) * 40_000) for number in range(100))  # 4 MB of items, and of results
    with Site(tmp_path) as site:
        small = site.start("echo", RESULTS_MB="6")
        path = site.begin("echo", upload)
        waiting = eventually(lambda: found if "full" in (found := site.state(path)).get("reason", "") else None)
        assert waiting["state"] == "running"
        refused = site.send("echo", upload)
        assert (refused.status, refused.code) == (507, "store_full")
        small.terminate()
        site.start(RESULTS_MB="100")
        assert "reason" not in site.ended(path)
        assert len(site.lines(path)) == 100
        assert sorted(site.stored(path)) == list(range(100))


def test_items_that_are_gone_from_the_store_fail_the_batch(tmp_path: Path) -> None:
    with Receiver() as receiver, Site(tmp_path, **HOOKS) as site:
        site.start("echo")
        site.stack.latest.signal(signal.SIGSTOP)
        site.stack.start_front_end()
        consumer = site.stack.start_consumer("echo")
        consumer.signal(signal.SIGSTOP)
        path = site.begin("echo", numbered(9000), Headrace_Webhook=receiver.url())
        eventually(lambda: site.state(path)["counts"]["in_flight"] or None)
        for part in sorted(site.results.glob("batches/*/*/*/in/*"))[2:]:
            part.unlink()
        consumer.signal(signal.SIGCONT)
        state = site.ended(path, "failed")
        assert "cannot be read" in state["reason"]
        assert len(site.lines(path)) == state["counts"]["done"] < 9000
        assert eventually(lambda: receiver.types() or None) == ["batch.failed"]

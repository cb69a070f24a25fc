"""Webhooks from a lane in Redis to a real receiver: signed, in order, again after a failure, and given up at last."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from standardwebhooks import Webhook, WebhookVerificationError

from producer_api.metrics import WebhookMetrics
from producer_api.net.addresses import Policy
from producer_api.net.egress import Egress, Limits, Lookup
from producer_api.webhooks import courier, outbox, schedule
from producer_api.webhooks.courier import Courier
from producer_api.webhooks.hook import Hook, Hooks
from shared import keys
from shared.keys import DEFAULT_LANE
from shared.redis import functions, library
from shared.redis.client import Link, connect, connect_async
from shared.webhook_secrets import key_of, secret_of
from tests.helpers import eventually, eventually_async
from tests.receiver import Received, Receiver

SECRET = "whsec_" + b64encode(b"a secret of thirty-two bytes, no").decode()
OLDER = "whsec_" + b64encode(b"an older one of thirty-two bytes").decode()
HERE = Policy([ipaddress.ip_network("127.0.0.1")])
ENDS = "request.succeeded,request.failed"


class Site:
    """A lane, and what couriers deliver from it."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model, self.registry = url, model, CollectorRegistry()
        self.client = connect(url)
        library.load(self.client)

    def hook(self, url: str, events: str | None = ENDS, include: str | None = None) -> Hook:
        return Hooks(HERE, is_on=True).read(url, events, include)

    def event(self, name: str, event: str, hook: Hook | str, detail: str = "", lane: str = DEFAULT_LANE) -> Any:
        text = hook if isinstance(hook, str) else hook.encode()
        command = functions.webhook_event(keys.work(self.model, lane), name, event, text, detail)
        return self.client.execute_command(*command)[0]

    def pending(self, lane: str = DEFAULT_LANE) -> int:
        found: Any = self.client.zcard(keys.webhooks_pending(self.model, lane))
        return int(found)

    def dead(self) -> list[str]:
        found: Any = self.client.xrange(keys.dead_webhooks(self.model, DEFAULT_LANE))
        return [fields[b"event"].decode() for _, fields in found]

    @asynccontextmanager
    async def courier(
        self,
        secrets: tuple[str, ...] = (SECRET,),
        policy: Policy = HERE,
        lookup: Lookup | None = None,
        limits: Limits | None = None,
        result: bytes | None = None,
        lanes: tuple[str, ...] = (DEFAULT_LANE,),
        registry: CollectorRegistry | None = None,
        lease_ms: int = outbox.LEASE_MS,
    ) -> AsyncIterator[Courier]:
        async def find(model: str, lane: str, name: str) -> bytes | None:
            if name == "cursed":
                raise RuntimeError("not to be read")
            return result

        made = Courier(
            connect_async(self.url),
            Egress(policy, lookup),
            secrets,
            lambda: [(self.model, lane) for lane in lanes],
            find,
            "https://api.example",
            WebhookMetrics(registry or CollectorRegistry()),
            limits,
            lease_ms,
        )
        made.start()
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture
def site(valkey_url: str, model_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(courier, "POLL_S", 0.01)
    monkeypatch.setattr(courier, "CLOSE_S", 1.0)
    made = Site(valkey_url, model_name)
    yield made
    made.client.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds instead of hours."""
    monkeypatch.setattr(schedule, "FIRST_WAIT_S", 0.002)
    monkeypatch.setattr(schedule, "FACTOR", 1.0)
    monkeypatch.setattr(schedule, "FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(schedule, "LONGEST_PAUSE_S", 0.002)


def test_an_event_reaches_its_receiver_signed_with_all_secrets(site: Site) -> None:
    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(receiver.url("/a?b=c")), '{"code":"ok"}')
        async with site.courier((SECRET, OLDER), result=b"never asked for"):
            await eventually_async(lambda: site.pending() == 0)

    with Receiver() as receiver:
        asyncio.run(run(receiver))
    (received,) = receiver.received
    assert received.path == "/a?b=c"
    assert received.headers["content-type"] == "application/json"
    for secret in (SECRET, OLDER):
        assert Webhook(secret).verify(received.body.decode(), dict(received.headers)) == received.document
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(received.body.decode(), dict(received.headers))
    document = received.document
    assert document["timestamp"].endswith("Z")
    assert (document["type"], document["data"]) == (
        "request.succeeded",
        {
            "id": "r1",
            "model": site.model,
            "status": "succeeded",
            "url": f"https://api.example/v1/models/{site.model}/requests/r1",
        },
    )
    assert site.client.exists(keys.webhooks(site.model, DEFAULT_LANE)) == 0


def test_each_lane_is_signed_with_secrets_of_its_own(site: Site) -> None:
    async def run(receiver: Receiver) -> None:
        for lane in (DEFAULT_LANE, "gold"):
            site.event(lane, "request.succeeded", site.hook(receiver.url()), lane=lane)
        async with site.courier(lanes=(DEFAULT_LANE, "gold")):
            await eventually_async(lambda: site.pending() + site.pending("gold") == 0)

    with Receiver() as receiver:
        asyncio.run(run(receiver))
    gold = secret_of(key_of(SECRET, "gold"))
    for received in receiver.received:
        name = received.document["data"]["id"]
        for lane, secret in ((DEFAULT_LANE, SECRET), ("gold", gold)):
            if name == lane:
                assert Webhook(secret).verify(received.body.decode(), dict(received.headers))
            else:
                with pytest.raises(WebhookVerificationError):
                    Webhook(secret).verify(received.body.decode(), dict(received.headers))
    assert len(receiver.received) == 2


def test_the_result_and_the_reason_come_with_their_events(site: Site) -> None:
    async def run(receiver: Receiver) -> None:
        hook = site.hook(receiver.url(), include="result")
        site.event("r1", "request.succeeded", hook)
        site.event("r2", "request.failed", hook, '{"code":"model_error"}')
        async with site.courier(result=b'{"predictions": []}'):
            await eventually_async(lambda: site.pending() == 0)

    with Receiver() as receiver:
        asyncio.run(run(receiver))
    found = {one.document["data"]["id"]: one.document["data"] for one in receiver.received}
    assert found["r1"]["result"] == {"predictions": []}
    assert "result" not in found["r2"]
    assert found["r2"]["error"] == {"code": "model_error"}


def test_only_events_that_are_asked_for_are_delivered(site: Site) -> None:
    hook = site.hook("http://127.0.0.1:9000/", "request.failed")
    assert site.event("r1", "request.succeeded", hook) == 0
    assert site.event("r1", "request.failed", hook) == 1
    all_ends = site.hook("http://127.0.0.1:9000/", None)
    assert site.event("r2", "request.queued", all_ends) == 0
    assert site.event("r2", "request.expired", all_ends) == 1
    for nonsense in ("", "no json", "[]", '{"url": 1, "events": []}', '{"url": "x", "events": ["request.failed"]}'):
        assert site.event("r3", "request.failed", nonsense) == 0


def test_events_of_a_request_come_in_order_whatever_fails(site: Site, soon: None) -> None:
    failures = iter([500, 302, 404, 429, 503] * 6)
    seen: list[tuple[str, str]] = []

    def answer(received: Received) -> tuple[int, dict[str, str]]:
        seen.append((received.type, received.headers["webhook-id"]))
        return next(failures) if len(seen) % 3 else 200, {}

    async def run(receiver: Receiver) -> None:
        hook = site.hook(receiver.url(), "request.queued,request.running,request.succeeded")
        for event in ("queued", "running", "succeeded"):
            site.event("r1", f"request.{event}", hook)
        async with site.courier():
            await eventually_async(lambda: site.pending() == 0)

    with Receiver(answer) as receiver:
        asyncio.run(run(receiver))
    assert [kind for kind, _ in seen] == [f"request.{one}" for one in ("queued", "running", "succeeded") for _ in "123"]
    assert len({webhook_id for _, webhook_id in seen}) == 3


def test_a_webhook_has_the_same_id_and_body_at_each_attempt_and_a_time_of_its_own(site: Site, soon: None) -> None:
    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(receiver.url()))
        async with site.courier():
            await eventually_async(lambda: site.pending() == 0)

    with Receiver(lambda received: (200 if len(receiver.received) == 3 else 500, {})) as receiver:
        asyncio.run(run(receiver))
    assert len(receiver.received) == 3
    assert len({(one.headers["webhook-id"], one.body) for one in receiver.received}) == 1
    for one in receiver.received:
        assert Webhook(SECRET).verify(one.body.decode(), dict(one.headers))


@pytest.mark.parametrize("status", [301, 400, 404, 500])
def test_what_is_never_accepted_is_given_up_after_ten_attempts(site: Site, soon: None, status: int) -> None:
    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(receiver.url()))
        async with site.courier():
            await eventually_async(lambda: site.pending() == 0)

    elsewhere = {"Location": "http://127.0.0.1:1/private"}
    with Receiver(lambda received: (status, elsewhere)) as receiver:
        asyncio.run(run(receiver))
    assert len(receiver.received) == schedule.MOST_ATTEMPTS
    (letter,) = site.dead()
    assert f"it answered {status}, at the last of 10 attempts" in letter
    assert '"attempts":10' in letter


def test_what_cannot_be_sent_keeps_nothing_else_from_being_delivered(site: Site, soon: None) -> None:
    async def run(receiver: Receiver) -> None:
        for name in ("cursed", *(f"r{number}" for number in range(9))):
            site.event(name, "request.succeeded", site.hook(receiver.url(), include="result"))
        async with site.courier(result=b"{}"):
            await eventually_async(lambda: site.pending() == 0)

    with Receiver() as receiver:
        asyncio.run(run(receiver))
    assert len(receiver.received) == 9
    (letter,) = site.dead()
    assert "an error of the front end" in letter


def test_a_receiver_that_is_gone_gets_no_second_attempt(site: Site) -> None:
    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(receiver.url()))
        async with site.courier():
            await eventually_async(lambda: site.pending() == 0)

    with Receiver(lambda received: (410, {})) as receiver:
        asyncio.run(run(receiver))
    assert len(receiver.received) == 1
    assert "it answered 410" in site.dead()[0]


def test_a_name_that_has_come_to_lead_to_a_private_address_gets_nothing(site: Site) -> None:
    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(f"http://hooks.example:{receiver.port}/"))
        async with site.courier(policy=Policy(), lookup=lambda host, port: ["127.0.0.1"]):
            await eventually_async(lambda: site.pending() == 0)

    with Receiver() as receiver:
        asyncio.run(run(receiver))
    assert receiver.received == []
    assert "hooks.example leads to 127.0.0.1, which is not a public address" in site.dead()[0]


def test_an_answer_that_asks_for_time_gets_it(site: Site, soon: None) -> None:
    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(receiver.url()))
        async with site.courier():
            await eventually_async(lambda: receiver.received)
            await eventually_async(lambda: b'"attempts":1' in first_event(site))

    with Receiver(lambda received: (429, {"Retry-After": "100"})) as receiver:
        asyncio.run(run(receiver))
    (subject, due_ms), *_ = queue_of(site)
    now_ms = server_ms(site)
    assert subject == b"request:r1"
    assert 50_000 < due_ms - now_ms < 111_000


def only_host(site: Site) -> str:
    (host,) = list[Any](site.client.zrange(keys.webhooks(site.model, DEFAULT_LANE), 0, -1))
    return bytes(host).decode()


def queue_of(site: Site) -> list[tuple[bytes, float]]:
    due = keys.webhooks_due(site.model, DEFAULT_LANE, only_host(site))
    found: Any = site.client.zrange(due, 0, -1, withscores=True)
    return list(found)


def first_event(site: Site) -> bytes:
    found: Any = site.client.lindex(keys.webhook_events(site.model, DEFAULT_LANE, only_host(site), "request:r1"), 0)
    return bytes(found)


def server_ms(site: Site) -> float:
    seconds, micros = site.client.time()
    return float(seconds) * 1000 + float(micros) / 1000


def test_hosts_that_are_dead_or_slow_delay_no_other(site: Site) -> None:
    """Forty requests for a port where nobody listens and forty for one that never answers were there before."""
    silent, closed = socket.create_server(("127.0.0.3", 0)), socket.create_server(("127.0.0.2", 0))
    dead_port = closed.getsockname()[1]
    closed.close()
    everywhere = Policy([ipaddress.ip_network("127.0.0.0/8")])

    async def run(receiver: Receiver) -> None:
        hooks = Hooks(everywhere, is_on=True)
        for number in range(40):
            for name, host, port in (("d", "127.0.0.2", dead_port), ("s", "127.0.0.3", silent.getsockname()[1])):
                hook = hooks.read(f"http://{host}:{port}/", None, None)
                site.event(f"{name}{number}", "request.succeeded", hook)
        for number in range(40):
            site.event(f"r{number}", "request.succeeded", site.hook(receiver.url()))
        async with site.courier(policy=everywhere, limits=Limits(total_s=30.0)):
            await eventually_async(lambda: len(receiver.received) == 40)

    with silent, Receiver() as receiver:
        asyncio.run(run(receiver))
    assert site.pending() == 80


def test_many_front_ends_deliver_each_event_once(site: Site) -> None:
    async def run(receivers: list[Receiver]) -> None:
        for number in range(60):
            site.event(f"r{number}", "request.succeeded", site.hook(receivers[number % 3].url()))
        async with site.courier(), site.courier(), site.courier():
            await eventually_async(lambda: site.pending() == 0)

    with Receiver() as one, Receiver() as two, Receiver() as three:
        asyncio.run(run([one, two, three]))
    ids = [received.headers["webhook-id"] for receiver in (one, two, three) for received in receiver.received]
    assert len(ids) == len(set(ids)) == 60


def test_what_a_front_end_that_died_was_delivering_is_delivered_by_another(site: Site) -> None:
    """Its lease ends, and the event is sent again under the same id."""

    async def dies(receiver: Receiver) -> None:
        client = connect_async(site.url)
        link = Link(client)
        box = outbox.Outbox(link, lease_ms=50)
        lane = (site.model, DEFAULT_LANE)
        (_, (leased,)) = (await box.claim([lane], [8]))[lane]
        ((event, _),) = await box.step(leased, (), 8)
        assert event.name == "r1"
        (_, others) = (await box.claim([lane], [8]))[lane]
        assert others == []
        async with site.courier():
            await eventually_async(lambda: site.pending() == 0)
        assert [one.headers["webhook-id"] for one in receiver.received] == [event.id]
        # What the first one says now changes nothing.
        assert await box.step(leased, [outbox.End(event, "again", 5, "late")], 8) == []
        assert (leased.token, site.pending()) == (0, 0)
        await link.close()
        await client.aclose()

    with Receiver() as receiver:
        site.event("r1", "request.succeeded", site.hook(receiver.url()))
        asyncio.run(dies(receiver))


def test_an_attempt_that_takes_longer_than_a_lease_is_nobody_elses(site: Site) -> None:
    go_on = threading.Event()

    def answer(received: Received) -> tuple[int, dict[str, str]]:
        go_on.wait(20)
        return 204, {}

    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(receiver.url()))
        async with site.courier(lease_ms=150), site.courier(lease_ms=150):
            await eventually_async(lambda: receiver.received)
            begun_ms = server_ms(site)
            await eventually_async(lambda: server_ms(site) > begun_ms + 500)
            go_on.set()
            await eventually_async(lambda: site.pending() == 0)

    with Receiver(answer) as receiver:
        asyncio.run(run(receiver))
    assert len(receiver.received) == 1


def test_a_courier_that_closes_lets_what_it_sends_arrive(site: Site) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(received: Received) -> tuple[int, dict[str, str]]:
        begun.set()
        go_on.wait(20)
        return 204, {}

    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(receiver.url()))
        async with site.courier():
            await eventually_async(begun.is_set)
            asyncio.get_running_loop().call_later(0.05, go_on.set)

    with Receiver(answer) as receiver:
        asyncio.run(run(receiver))
    assert (len(receiver.received), site.pending()) == (1, 0)


def test_metrics_say_what_is_delivered_and_what_waits(site: Site) -> None:
    registry = CollectorRegistry()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"headrace_webhook{name}", labels or None)

    async def run(receiver: Receiver) -> None:
        site.event("r1", "request.succeeded", site.hook(receiver.url("/ok")))
        site.event("r2", "request.succeeded", site.hook(receiver.url("/no")))
        site.event("r3", "request.succeeded", site.hook(receiver.url("/gone")))
        async with site.courier(registry=registry):
            await eventually_async(lambda: value("s_pending", model=site.model) == 1)

    statuses = {"/ok": 204, "/no": 500, "/gone": 410}
    with Receiver(lambda received: (statuses[received.path], {})) as receiver:
        asyncio.run(run(receiver))
    assert value("_attempts_total", result="delivered") == 1
    assert value("_attempts_total", result="status") == 2
    assert value("_attempt_duration_seconds_count") == 3
    assert value("s_given_up_total") == 1
    assert (value("s_oldest_age_seconds", model=site.model) or 0) > 0


def test_a_lane_takes_so_many_and_no_more(site: Site) -> None:
    work = keys.work(site.model, DEFAULT_LANE)
    assert site.client.execute_command(*functions.webhook_room(work)) == 1
    pending = keys.webhooks_pending(site.model, DEFAULT_LANE)
    site.client.zadd(pending, {f"h:request:{number}": number for number in range(10_000)})
    site.client.pexpire(pending, 60_000)
    assert site.client.execute_command(*functions.webhook_room(work)) == 0
    other = keys.work(site.model, "other")
    assert site.client.execute_command(*functions.webhook_room(other)) == 1


def test_redis_that_goes_away_for_a_while_costs_nothing(site: Site) -> None:
    async def run(receiver: Receiver) -> None:
        async with site.courier():
            site.event("r1", "request.succeeded", site.hook(receiver.url()))
            await eventually_async(lambda: site.pending() == 0)
            for one in site.client.client_list():
                if one["name"] == "headrace":
                    site.client.client_kill_filter(_id=one["id"], skipme=True)
            site.event("r2", "request.succeeded", site.hook(receiver.url()))
            await eventually_async(lambda: site.pending() == 0)

    with Receiver() as receiver:
        asyncio.run(run(receiver))
    assert {one.document["data"]["id"] for one in receiver.received} == {"r1", "r2"}
    assert eventually(lambda: site.dead() == [])

"""Dead letters on the console: listed quickly, put back and dropped in pieces, and never more than was chosen."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from producer_api.console.actions import handling, listing
from shared import keys
from shared.wire.messages import Request, decode_request, encode_request
from tests.e2e.console_actions.desk import ACTION, TTL_MS, Desk, ids_in, letter
from tests.helpers import eventually

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def shared_desk(valkey_url: str) -> Iterator[Desk]:
    with Desk(valkey_url) as started:
        yield started


@pytest.fixture
def desk(shared_desk: Desk) -> Iterator[Desk]:
    yield shared_desk
    for lane in ("default", "gold"):
        shared_desk.redis.unlink(keys.dead_letters(shared_desk.model, lane))
        shared_desk.redis.xtrim(keys.work(shared_desk.model, lane), maxlen=0, approximate=False)


# Listing


def test_pages_are_newest_first_and_lead_to_the_end(desk: Desk) -> None:
    ids = desk.bury(25)
    page = desk.dead("&limit=10")
    assert page["letters"][0] == {
        "id": ids[-1],
        "request_id": "r24",
        "lane": "default",
        "at_ms": int(ids[-1].partition("-")[0]),
        "reason": "crashed",
        "attempts": 2,
        "bytes": len(encode_request(Request("r24", TTL_MS, "image/jpeg", b"x"))),
        "content_type": "image/jpeg",
    }
    assert (page["total"], page["matching"], page["matching_is_exact"]) == (25, 25, True)
    found = [one["id"] for one in page["letters"]]
    while page["next"]:
        page = desk.dead(f"&limit=10&after={page['next']}")
        found += [one["id"] for one in page["letters"]]
    assert found == ids[::-1]


def test_all_lanes_are_one_list(desk: Desk) -> None:
    places = [keys.dead_letters(desk.model, lane) for lane in ("default", "gold")]
    for number in range(1, 8):
        for place in places:  # the same ids in both lanes
            desk.redis.xadd(place, letter(f"r{number}"), id=f"{number}-1")
    found, after = [], ""
    while True:
        page = desk.dead(f"&limit=3&after={after}", lane="")
        found += [(one["id"], one["lane"]) for one in page["letters"]]
        after = page["next"]
        if not after:
            break
    assert found == [(f"{number}-1", lane) for number in range(7, 0, -1) for lane in ("default", "gold")]
    assert page["total"] == 14


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CRASHED", ["r1", "r0"]),
        ("r3", ["r3"]),
        ("wav", ["r5", "r4"]),
        ("gold", []),
        ("default", ["r5", "r4", "r3", "r2", "r1", "r0"]),
        ("a+b(", ["r3", "r2"]),
        ("%", []),
    ],
)
def test_match_is_a_plain_substring_of_what_is_shown(desk: Desk, text: str, found: list[str]) -> None:
    desk.bury(2)
    desk.bury(2, begin=2, reason="a+b(c")
    desk.bury(2, begin=4, reason="malformed", content_type="audio/wav")
    query = f"&match={text.replace('+', '%2B').replace('%', '%25') if text == '%' else text.replace('+', '%2B')}"
    page = desk.dead(query)
    assert [one["request_id"] for one in page["letters"]] == found
    assert (page["matching"], page["matching_is_exact"], page["next"]) == (len(found), True, None)


def test_a_search_looks_at_so_many_and_says_that_there_are_more(desk: Desk) -> None:
    desk.bury(1, reason="needle")
    desk.bury(listing.MOST_LOOKED_AT + 50, begin=1)
    page = desk.dead("&match=needle")
    assert (page["letters"], page["matching"], page["matching_is_exact"]) == ([], 0, False)
    page = desk.dead(f"&match=needle&after={page['next']}")
    assert [one["reason"] for one in page["letters"]] == ["needle"]
    assert page["next"] is None


def test_large_messages_stay_in_redis_and_no_call_takes_them_all(desk: Desk) -> None:
    for number in range(6):
        desk.bury(1, begin=number, body=bytes(1_500_000))
    page = desk.dead()
    assert [one["request_id"] for one in page["letters"]] == [f"r{number}" for number in range(5, -1, -1)]
    assert desk.requeue(all=True).end == {"ended": True, "done": 6, "failed": 0, "gone": 0, "why": ""}


HOSTILE = ["<script>alert(1)</script>", "\u202e\u0000'\"&amp;", "\ud7ff" * 20, "\r\nX: y"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_markup_comes_back_as_json_and_nothing_else(desk: Desk, text: str) -> None:
    place = keys.dead_letters(desk.model, "default")
    desk.redis.xadd(place, {"reason": text, "crashes": "9" * 40, "id": text, "m": b"\xc1no request"})
    desk.redis.xadd(
        place, {"reason": b"\xff\xfe", "id": b"x" * 65_536, "m": encode_request(Request("a", 9, text, b""))}
    )
    desk.redis.xadd(place, {"nothing": "known"})
    answer = desk.get(f"/console/dead?model={desk.model}&lane=default")
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("application/json", "nosniff")
    bare, strange, first = answer.json["letters"]
    assert (first["reason"], first["request_id"], first["attempts"]) == (text, "", 0)
    assert (strange["reason"], strange["request_id"]) == ("\ufffd\ufffd", "a")
    assert strange["content_type"] == (text if len(text.encode()) <= 64 else "")
    assert (bare["bytes"], bare["reason"]) == (0, "")
    assert (
        desk.requeue(all=True).end["failed"] == 1
    )  # that without a message; the others are requests to their consumer


# Requeue and drop


def test_chosen_letters_are_put_back_and_those_that_are_gone_are_counted(desk: Desk) -> None:
    ids = desk.bury(4)
    kept = desk.redis.xrange(keys.dead_letters(desk.model, "default"))
    end = desk.requeue(ids=[ids[1], ids[3], "1-1", ids[1]]).end
    assert end == {"ended": True, "done": 2, "failed": 0, "gone": 1, "why": ""}
    assert desk.letters() == [ids[0], ids[2]]
    assert ids_in(desk.redis.xrange(keys.work(desk.model, "default"))) == [kept[at][1][b"m"] for at in (1, 3)]
    assert desk.drop(ids=[ids[0]]).end["done"] == 1
    assert desk.letters() == [ids[2]]


def test_what_is_put_back_starts_afresh(desk: Desk) -> None:
    """The message's own id counts where the letter does not say it."""
    message = encode_request(Request("mine", TTL_MS, "image/jpeg", b"x"))
    desk.redis.xadd(keys.dead_letters(desk.model, "default"), {"reason": "crashed", "m": message})
    places = [keys.reply(desk.model, "default", "mine"), keys.flight(desk.model, "default", "mine")]
    desk.redis.rpush(places[0], b"it crashed")
    desk.redis.set(places[1], "1-1 9 print")
    assert desk.requeue(all=True).end["done"] == 1
    assert desk.redis.exists(*places) == 0


def test_all_that_match_and_no_newer_ones(desk: Desk) -> None:
    desk.bury(5, reason="malformed")
    ids = desk.bury(250, begin=5)
    newer = desk.bury(3, begin=300)
    lines = desk.drop(all=True, match="crash", up_to=ids[-1]).lines
    assert lines[-1] == {"ended": True, "done": 250, "failed": 0, "gone": 0, "why": ""}
    assert [line["done"] for line in lines[:-1]] == sorted(line["done"] for line in lines[:-1])
    assert all(line["done"] <= line["total"] for line in lines[:-1])
    assert len(lines) >= 3
    assert len(desk.letters()) == 8
    assert desk.letters()[-3:] == newer


def test_what_came_after_an_action_began_is_not_touched(desk: Desk) -> None:
    place = keys.dead_letters(desk.model, "default")
    desk.redis.xadd(place, letter("later"), id=f"{(1 << 63)}-0")  # from the future
    assert desk.drop(all=True).end["done"] == 0
    assert len(desk.letters()) == 1


def test_all_lanes_at_once(desk: Desk) -> None:
    desk.bury(3)
    desk.bury(4, lane="gold")
    assert desk.requeue(all=True, lane="").end["done"] == 7
    assert (desk.depth(), desk.depth("gold")) == (3, 4)


def test_two_operators_at_once_do_each_letter_once(desk: Desk) -> None:
    desk.bury(900)
    ends: list[Any] = []
    threads = [threading.Thread(target=lambda: ends.append(desk.requeue(all=True).end)) for _ in range(2)]
    for thread in threads:
        thread.start()
    desk.drop(all=True, match="r7")
    for thread in threads:
        thread.join()
    dropped = 900 - desk.depth()
    assert sum(end["done"] for end in ends) == desk.depth()
    assert dropped <= len([number for number in range(900) if "r7" in f"r{number}"])
    messages = [decode_request(message).id for message in ids_in(desk.redis.xrange(keys.work(desk.model, "default")))]
    assert len(set(messages)) == len(messages)
    assert desk.letters() == []


def test_a_browser_that_goes_away_ends_it_between_two_pieces(desk: Desk) -> None:
    stopped = desk.stopped("requeue")
    desk.bury(2000)
    body = json.dumps({"model": desk.model, "lane": "default", "all": True}).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in ACTION.items())
    with socket.create_connection(("127.0.0.1", desk.server.port), timeout=20) as browser:
        sent = f"POST /console/dead/requeue HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        browser.sendall(sent.encode() + body)
        assert b"200" in browser.recv(100)  # and no more: the lane's half is full soon, and it waits
        eventually(lambda: desk.depth() == 1024)
        assert desk.stopped("requeue") == stopped
    eventually(lambda: desk.stopped("requeue") == stopped + 1)
    assert (desk.depth(), len(desk.letters())) == (1024, 976)


def test_a_lane_is_filled_to_half_and_goes_on_when_there_is_room(valkey_url: str) -> None:
    with Desk(valkey_url, lane_limit=300) as desk:
        desk.bury(400)
        work = keys.work(desk.model, "default")
        most = 0

        def consume() -> None:
            nonlocal most
            while len(desk.letters()) or desk.depth():
                most = max(most, desk.depth())
                for entry, _ in desk.redis.xrange(work, count=60):
                    desk.redis.xdel(work, entry)

        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(desk.requeue(all=True).lines))
        asking.start()
        eventually(lambda: desk.depth() == 150)
        consume()
        asking.join()
        assert answers[0][-1]["done"] == 400
        assert any(line.get("waits_for_room") for line in answers[0])
        assert most <= 150


def test_a_front_end_that_is_to_stop_ends_it(valkey_url: str) -> None:
    with Desk(valkey_url, lane_limit=10) as desk:
        desk.bury(8)
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(desk.requeue(all=True).end))
        asking.start()
        eventually(lambda: desk.depth() == 5)
        desk.server.app.rules.is_draining = True
        asking.join()
        assert answers[0]["why"] == "This front end is stopping; go on with another."
        assert (answers[0]["done"], len(desk.letters())) == (5, 3)


def test_a_lane_that_stays_full_ends_it_with_a_sentence(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "PATIENCE_S", 0.3)
    with Desk(valkey_url, lane_limit=10) as desk:
        desk.bury(8)
        end = desk.requeue(all=True).end
        assert (end["done"], desk.depth(), len(desk.letters())) == (5, 5, 3)
        assert "no room" in end["why"]
        assert end["why"].endswith(".")


def test_a_lane_that_is_full_of_bytes_takes_nothing(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "PATIENCE_S", 0.3)
    with Desk(valkey_url) as desk:
        desk.redis.hset(keys.lanes(desk.model), "default:bytes", 1 << 20)
        desk.bury(3, body=bytes(400_000))
        assert desk.requeue(all=True).end["done"] == 2
        assert len(desk.letters()) == 1

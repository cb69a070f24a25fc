"""What this version reads of a later one, which may say more: functions whose answers and hints have grown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumer.queue.interface import Completion
from consumer.queue.redis_stream import RedisStream
from headrace.lanes import lane
from producer_api.metrics import queue_metrics
from producer_api.queue.redis_queue import RedisQueue
from shared.redis import library
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from shared.wire.messages import ModelTag, Reply, Request, Tensor, Timing, decode_request, encode_reply
from shared.wire.outcomes import QUEUE_UNAVAILABLE, RequestError
from tests.asking import submit
from tests.contract.lanes import LANE, card, settings
from tests.embedded import EmbeddedServer
from tests.helpers import eventually

LATER = """
local redis = {
  register_function = function(first, callback)
    local named = callback and { function_name = first, callback = callback } or first
    local own, name = named.callback, named.function_name
    named.callback = function(keys, args)
      local answer = own(keys, args)
      if name == 'hr1_heartbeat' or name == 'hr1_bytes' or name == 'hr1_repair' then
        answer[#answer + 1] = 7
      elseif name == 'hr1_reclaim' then
        for _, row in ipairs(answer) do
          row[#row + 1] = 'more'
        end
      elseif name == 'hr1_admit' and args[#args - 2] == 'put-off' then
        answer[#answer] = 'later than you think'
      end
      return answer
    end
    redis.register_function(named)
  end,
  call = function(...)
    local arguments, is_hint = {}, string.find(select(2, ...) or '', ':rs:', 1, true)
    for _, one in ipairs({ ... }) do
      arguments[#arguments + 1] = one
      if one == '*' and is_hint then -- in front, where the id was
        arguments[#arguments + 1], arguments[#arguments + 2] = 'colour', 'blue'
      end
    end
    return redis.call(unpack(arguments))
  end,
  pcall = function(...) return redis.pcall(...) end,
}
"""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of its own, which all of this process give the functions of a later version."""
    head, rest = library.source().split("\n", 1)
    monkeypatch.setattr(library, "source", lambda: f"{head}\n{LATER}{rest}")
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), appendonly="no", maxmemory_mb=64)) as server:
        yield server.url


def test_answers_and_hints_that_say_more_are_read(
    url: str, model_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    consumer = RedisStream(settings(url), model_name, "worker-1")
    consumer.heartbeat(card(model_name), {})
    assert consumer.depth()[LANE].bytes is not None

    def answer_one() -> None:
        (entry,) = eventually(lambda: consumer.read(1))
        request = decode_request(entry.message or b"")
        output = Tensor("y", "UINT8", (1,), request.body or b"")
        reply = encode_reply(Reply(request.id, ModelTag(model_name, "1", "fp32"), Timing(), outputs=[output]))
        assert consumer.commit([Completion(entry.entry_id, request.id, request.reply_to or "", 60_000, reply)]) == [1]

    async def ask() -> None:
        queue = RedisQueue(settings(url), queue_metrics(CollectorRegistry()))
        await queue.start()
        assert LANE in queue.catalogue().models[model_name].bytes
        asked = asyncio.create_task(submit(queue, model_name, request("a"), id_is_generated=True))
        await asyncio.to_thread(answer_one)
        reply = (await asked).reply
        assert reply.outputs is not None
        assert (reply.id, reply.outputs[0].data) == ("a", b"x")
        with pytest.raises(RequestError) as caught:
            await submit(queue, model_name, request("put-off"), id_is_generated=True)
        assert caught.value.outcome is QUEUE_UNAVAILABLE  # and not a wait for an entry of that name
        await queue.close()

    asyncio.run(ask())
    (entry,) = consumer.read(1)
    assert decode_request(entry.message or b"").id == "put-off"
    other = RedisStream(settings(url, lease_ms=500), model_name, "worker-2")
    assert eventually(lambda: other.reclaim(1))[0].attempt == 2
    with connect(url) as client:
        assert lane.repair(client, model_name, LANE, None, yes=True, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 1
    consumer.close()
    other.close()


def request(request_id: str) -> Request:
    return Request(request_id, 60_000, "application/octet-stream", b"x")

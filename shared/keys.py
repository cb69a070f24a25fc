"""Every Redis key name that Headrace uses, in one place.

The braces around the model belong to the protocol. ``docs/protocol.md`` describes what each key holds.
``shared/redis/lua`` derives the same names from the work stream's key.
"""

from __future__ import annotations

MODELS = "hr:models"
"""Sorted set: every model ever served, scored by the Redis time in milliseconds when it was last seen."""

FUNCTIONS = "hr:functions"
"""Never there: a process that loads the functions writes and deletes it in one step, so that another one notices."""

DEFAULT_LANE = "default"
GROUP = "workers"
FRONT_END = "fe-"
"""Prefix of the instance names under which front ends wait for replies."""

LATER = f"{FRONT_END}later"
"""The instance that later requests name: no process waits, clients fetch the result by its id."""

MESSAGE_FIELD = "m"


def card(model: str) -> str:
    """Hash that describes a model: shapes, labels, precision, batch settings. Outlives its workers."""
    return f"hr:{{{model}}}:card"


def lanes(model: str) -> str:
    """Hash from lane name to its limit and weight; see ``lanes.py``."""
    return f"hr:{{{model}}}:lanes"


def work(model: str, lane: str) -> str:
    """Stream of queued and running requests; consumer group ``workers``."""
    return f"hr:{{{model}}}:q:{lane}"


def reply(model: str, lane: str, request_id: str) -> str:
    """List that holds the reply of one request until it expires."""
    return f"hr:{{{model}}}:r:{lane}:{request_id}"


def stored(model: str, lane: str) -> str:
    """Sorted set: what the lane's stored replies take and when they expire; see ``shared/redis/lua/bytes.lua``."""
    return f"hr:{{{model}}}:b:{lane}"


def lane_bytes(model: str) -> str:
    """What a lane may take in bytes that has no limit of its own; the consumers say so."""
    return f"hr:{{{model}}}:bytes"


def lane_tokens(model: str) -> str:
    """Hash that has for each lane how many bytes a thousand prompt tokens take; the consumers say so."""
    return f"hr:{{{model}}}:tokens"


def job(model: str, lane: str, request_id: str) -> str:
    """Hash that is the record of one later request; see ``shared/redis/lua/later.lua``. Stays as long as its result."""
    return f"hr:{{{model}}}:j:{lane}:{request_id}"


def job_ends(model: str, lane: str) -> str:
    """Capped stream that tells which later requests ended, and how."""
    return f"hr:{{{model}}}:je:{lane}"


def open_jobs(model: str, lane: str) -> str:
    """Sorted set: later requests that are open, by deadline; the empty name has how many there have been."""
    return f"hr:{{{model}}}:jo:{lane}"


def kept(model: str, lane: str) -> str:
    """Sorted set: what the lane's kept results take, as ``stored`` for other replies."""
    return f"hr:{{{model}}}:jb:{lane}"


def kept_bytes(model: str) -> str:
    """What the kept results of a lane may take in bytes; the consumers say so."""
    return f"hr:{{{model}}}:kept"


def flight(model: str, lane: str, request_id: str) -> str:
    """String that says which entry of a client's own id is in flight, until when, and the fingerprint of its body."""
    return f"hr:{{{model}}}:d:{lane}:{request_id}"


def terminations(model: str, lane: str) -> str:
    """Capped stream that tells which entries of a lane ended without a consumer: cancelled, or expired in the queue."""
    return f"hr:{{{model}}}:x:{lane}"


def reply_stream(model: str, lane: str, instance: str) -> str:
    """Capped stream of replies for one waiting process. A hint: the reply key stays the truth."""
    return f"hr:{{{model}}}:rs:{lane}:{instance}"


def record(model: str, lane: str, request_id: str) -> str:
    """Stream of the frames of one generation; see ``shared/redis/lua/streams.lua``. Stays as long as its reply."""
    return f"hr:{{{model}}}:g:{lane}:{request_id}"


def workers(model: str) -> str:
    """Sorted set: live workers scored by the Redis time in milliseconds of their last heartbeat."""
    return f"hr:{{{model}}}:workers"


def worker(model: str, worker_name: str) -> str:
    """Hash that describes one worker; expires when its heartbeat stops."""
    return f"hr:{{{model}}}:w:{worker_name}"


def failures(model: str) -> str:
    """Hash with what supervisors say of consumers that died; see ``failures.py``. Goes soon after their last word."""
    return f"hr:{{{model}}}:failures"


def starts(model: str) -> str:
    """Hash with what consumers say of themselves before they serve, and of a model that cannot be loaded; see
    ``starts.py``. Goes an hour after the last word."""
    return f"hr:{{{model}}}:starts"


def desired_state(model: str) -> str:
    """Hash with the desired state of a model; see ``shared/state/desired_state.py``. Stays until the next change."""
    return f"hr:{{{model}}}:wish"


def history(model: str) -> str:
    """Capped stream of what front ends have counted in each ten seconds; see ``producer_api/console/history``."""
    return f"hr:{{{model}}}:history"


def history_turn(model: str) -> str:
    """Name of the front end that adds to the history what belongs to none; expires if it stops."""
    return f"hr:{{{model}}}:history:turn"


def repair(model: str, lane: str) -> str:
    """Stream that holds a lane's entries while ``hr1_repair`` makes its stream anew; gone when that returns."""
    return f"hr:{{{model}}}:repair:{lane}"


def turn(model: str) -> str:
    """Name of the one worker that may switch precision now; expires if that worker dies."""
    return f"hr:{{{model}}}:turn"


def dead_letters(model: str, lane: str) -> str:
    """Capped stream of requests that were given up: reason, crashes, the original message."""
    return f"hr:{{{model}}}:dlq:{lane}"


def request_log(model: str) -> str:
    """Stream, capped by bytes: what became of requests, and where their time went; see ``wire/request_log.py``."""
    return f"hr:{{{model}}}:log"


def webhooks(model: str, lane: str) -> str:
    """Sorted set: hosts to which webhooks of a lane go, by when to look at them next."""
    return f"hr:{{{model}}}:hooks:{lane}"


def webhooks_due(model: str, lane: str, host: str) -> str:
    """Sorted set: requests and batches whose webhooks go to a host, by when the next attempt is due."""
    return f"{webhooks(model, lane)}:q:{host}"


def webhook_events(model: str, lane: str, host: str, subject: str) -> str:
    """List of the events of one request or batch that are still to be delivered, the oldest first."""
    return f"{webhooks(model, lane)}:e:{host}:{subject}"


def webhooks_pending(model: str, lane: str) -> str:
    """Sorted set: all requests and batches of a lane with webhooks to deliver, by when the oldest began to wait."""
    return f"{webhooks(model, lane)}:p"


def dead_webhooks(model: str, lane: str) -> str:
    """Capped stream of webhooks that were given up."""
    return f"{webhooks(model, lane)}:dlq"


def bulk(model: str) -> str:
    """Sorted set: ``LANE:ID`` of every bulk batch, scored by when somebody has to look after it; see ``bulk.lua``."""
    return f"hr:{{{model}}}:bulk"


def hurried(model: str) -> str:
    """Sorted set: batch lanes in which something is urgent, so that nothing in them waits, scored by until when."""
    return f"hr:{{{model}}}:hurry"


def bulk_list(model: str, lane: str) -> str:
    """Sorted set: the bulk batches of a lane, scored by when they began to come in."""
    return f"hr:{{{model}}}:bl:{lane}"


def bulk_record(model: str, lane: str, batch_id: str) -> str:
    """Hash: how a bulk batch stands."""
    return f"hr:{{{model}}}:bk:{lane}:{batch_id}"


def bulk_parts(model: str, lane: str, batch_id: str) -> str:
    """List: the parts of a bulk batch's results, in the order in which they were stored."""
    return f"hr:{{{model}}}:bp:{lane}:{batch_id}"

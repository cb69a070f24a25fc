"""The one table from what happened to a request to its HTTP status and metric label."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    Attributes:
        code: stable machine-readable name, used in error bodies, replies and metric labels.
        status: HTTP status of the response.
        retry: whether the same request may succeed later; such responses carry ``Retry-After``.
        lasting: whether a consumer stores this answer in the reply key. Expired work is only hinted, so that asking
            again with the same id starts afresh.
    """

    code: str
    status: int
    retry: bool = False
    lasting: bool = True


OK = Outcome("ok", 200)
ACCEPTED = Outcome("accepted", 202)
MALFORMED = Outcome("malformed", 400)
CONTEXT_LENGTH_EXCEEDED = Outcome("context_length_exceeded", 400)
UNAUTHORIZED = Outcome("unauthorized", 401)
FORBIDDEN = Outcome("forbidden", 403)
NOT_FOUND = Outcome("not_found", 404)
UNKNOWN_MODEL = Outcome("unknown_model", 404)
UNKNOWN_LANE = Outcome("unknown_lane", 404, lasting=False)
UNKNOWN_REQUEST = Outcome("unknown_request", 404)
UNKNOWN_BATCH = Outcome("unknown_batch", 404)
METHOD_NOT_ALLOWED = Outcome("method_not_allowed", 405)
NOT_ACCEPTABLE = Outcome("not_acceptable", 406)
UNKNOWN_UPLOAD = Outcome("unknown_upload", 404)
REQUEST_TIMEOUT = Outcome("request_timeout", 408)
ALREADY_ANSWERED = Outcome("already_answered", 409)
BATCH_ENDED = Outcome("batch_ended", 409)
UPLOAD_STATE = Outcome("upload_state", 409)
BODY_TOO_LARGE = Outcome("body_too_large", 413)
UNSUPPORTED_MEDIA_TYPE = Outcome("unsupported_media_type", 415)
MISDIRECTED = Outcome("misdirected", 421)
REFERENCE_REFUSED = Outcome("reference_refused", 422)
REFERENCE_FAILED = Outcome("reference_failed", 422)
INVALID_INPUT = Outcome("invalid_input", 422)
KEY_REUSED = Outcome("key_reused", 422)
HEADERS_TOO_LARGE = Outcome("headers_too_large", 431)
LANE_FULL = Outcome("lane_full", 429, retry=True, lasting=False)
CLIENT_LIMIT = Outcome("client_limit", 429, retry=True, lasting=False)
UPLOAD_LIMIT = Outcome("upload_limit", 429, retry=True, lasting=False)
WAIT_TOO_LONG = Outcome("wait_too_long", 429, retry=True)
TOO_MANY_BATCHES = Outcome("too_many_batches", 429, retry=True, lasting=False)
CLIENT_CLOSED = Outcome("client_closed", 499, lasting=False)
CANCELLED = Outcome("cancelled", 499, lasting=False)
MODEL_ERROR = Outcome("model_error", 500)
CRASHED = Outcome("crashed", 500)
INTERNAL = Outcome("internal", 500)
RESULT_GONE = Outcome("result_gone", 410)
STORE_FULL = Outcome("store_full", 507, retry=True, lasting=False)
STORE_UNAVAILABLE = Outcome("store_unavailable", 503, retry=True, lasting=False)
UNSUPPORTED = Outcome("unsupported", 501)
NO_RESULT_STORE = Outcome("no_result_store", 501)
QUEUE_UNAVAILABLE = Outcome("queue_unavailable", 503, retry=True, lasting=False)
QUEUE_OUT_OF_MEMORY = Outcome("queue_out_of_memory", 503, retry=True, lasting=False)
NO_WORKER = Outcome("no_worker", 503, retry=True, lasting=False)
LOADING = Outcome("loading", 503, retry=True, lasting=False)
DRAINING = Outcome("draining", 503, retry=True, lasting=False)
OVERLOADED = Outcome("overloaded", 503, retry=True, lasting=False)
SHUTTING_DOWN = Outcome("shutting_down", 503, retry=True, lasting=False)
RESULTS_FULL = Outcome("results_full", 507, retry=True)
WEBHOOKS_FULL = Outcome("webhooks_full", 503, retry=True, lasting=False)
EXPIRED = Outcome("expired", 504, lasting=False)
UNKNOWN_OUTCOME = Outcome("unknown_outcome", 504, lasting=False)

ALL = (
    OK,
    ACCEPTED,
    MALFORMED,
    CONTEXT_LENGTH_EXCEEDED,
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    UNKNOWN_MODEL,
    UNKNOWN_LANE,
    UNKNOWN_REQUEST,
    UNKNOWN_BATCH,
    UNKNOWN_UPLOAD,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    REQUEST_TIMEOUT,
    ALREADY_ANSWERED,
    BATCH_ENDED,
    UPLOAD_STATE,
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    MISDIRECTED,
    REFERENCE_REFUSED,
    REFERENCE_FAILED,
    INVALID_INPUT,
    KEY_REUSED,
    HEADERS_TOO_LARGE,
    LANE_FULL,
    CLIENT_LIMIT,
    UPLOAD_LIMIT,
    WAIT_TOO_LONG,
    TOO_MANY_BATCHES,
    CLIENT_CLOSED,
    CANCELLED,
    MODEL_ERROR,
    CRASHED,
    INTERNAL,
    RESULT_GONE,
    STORE_FULL,
    STORE_UNAVAILABLE,
    UNSUPPORTED,
    NO_RESULT_STORE,
    QUEUE_UNAVAILABLE,
    QUEUE_OUT_OF_MEMORY,
    NO_WORKER,
    LOADING,
    DRAINING,
    OVERLOADED,
    SHUTTING_DOWN,
    RESULTS_FULL,
    WEBHOOKS_FULL,
    EXPIRED,
    UNKNOWN_OUTCOME,
)
BY_CODE = {outcome.code: outcome for outcome in ALL}


class RequestError(Exception):
    """A request that ends with an error; carries everything the error body shows.

    Attributes:
        outcome: row of the outcome table.
        message: one sentence for the person who sent the request.
        field: path of the part that is wrong, such as ``inputs[0].shape``, if there is one.
        request_id: id to ask again with, once known.
        retry_after_s: seconds to wait before the next try, for outcomes with ``retry``.
    """

    def __init__(
        self,
        outcome: Outcome,
        message: str,
        *,
        field: str | None = None,
        request_id: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.field = field
        self.request_id = request_id
        self.retry_after_s = retry_after_s


def invalid(message: str, field: str | None = None) -> RequestError:
    """Make the error for input that is well formed but does not fit the model."""
    return RequestError(INVALID_INPUT, message, field=field)


def malformed(message: str, field: str | None = None) -> RequestError:
    """Make the error for input that cannot be parsed."""
    return RequestError(MALFORMED, message, field=field)

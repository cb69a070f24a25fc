"""Bodies that are passed on as they are: pictures, and rows of raw elements."""

from __future__ import annotations

from functools import lru_cache

from producer_api.parsing import base64_text
from shared.state.cards import Card, TensorSpec
from shared.wire.outcomes import invalid

from .negotiation import RAW, sniff


def check_picture(picture: bytes, card: Card, field: str) -> tuple[str, bytes]:
    """Return the type of a picture that the model takes, by its first bytes, and the picture."""
    kind = sniff(picture)
    if kind is None:
        raise invalid(f"This is not a JPEG, PNG or WebP file.{base64_text.hint(picture)}", field)
    if kind not in card.content_types:
        raise invalid(f"The model does not take {kind}.", field)
    return kind, picture


def check_rows(body: bytes, card: Card) -> str:
    """Check that ``body`` is one or more rows of the model's only input; returns that one's datatype."""
    if not card.inputs:
        raise invalid(f"The model describes no input that {RAW} could be rows of.", "body")
    if len(card.inputs) > 1:
        raise invalid("The model has several inputs; send them as JSON or msgpack.", "body")
    spec = card.inputs[0]
    row_bytes, step_bytes = _sizes(spec)
    if row_bytes:
        rows, rest = divmod(len(body), row_bytes)
        if rest:
            raise invalid(
                f"A row of {spec.datatype} {list(spec.shape)} takes {row_bytes} bytes; the body has {len(body)}, "
                "which is not a multiple.",
                "body",
            )
        if rows > card.batch.max_batch:
            raise invalid(f"The model takes at most {card.batch.max_batch} rows, not {rows}.", "body")
    elif len(body) % step_bytes:
        raise invalid(f"The body does not fill whole elements of {spec.datatype} {list(spec.shape)}.", "body")
    return spec.datatype


@lru_cache(maxsize=1024)
def _sizes(spec: TensorSpec) -> tuple[int | None, int]:
    """Bytes of one row, None when a dimension is free, and what every length is a multiple of even then."""
    return spec.row_bytes(), spec.step_bytes()

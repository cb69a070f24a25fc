"""Begins a request that was taken over: counts the attempt first, so that no request is tried for ever."""

from __future__ import annotations

from consumer.pipeline.context import Context
from consumer.pipeline.items import Item
from consumer.queue.interface import StreamDown, StreamGone


def count_isolated(context: Context, item: Item) -> bool:
    """Count that an item taken over begins now; False when it is not this consumer's to run."""
    if item.resumed is not None and not item.resumed.is_unproven:
        item.has_begun = True  # it goes on in company: what ends this consumer now is not its doing
        return True
    claim = item.entry.claim
    try:
        item.has_begun = context.stream.begin_isolated(item.entry)
    except StreamDown:
        context.leases.put_off(claim)  # it is taken over again when its lease has run out
        return False
    except StreamGone:
        pass  # all that was claimed is read anew
    if not item.has_begun:
        context.leases.release([claim])
    return item.has_begun

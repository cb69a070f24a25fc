"""What results say of the bodies that were sent. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from loadgen.results.runfile import PayloadInfo
from loadgen.scenario import Payload, Scenario


def payload_infos(scenario: Scenario) -> list[PayloadInfo]:
    """Return what there is to say of each payload; those of a workload count as one, for they are hundreds."""
    payloads = scenario.payloads
    if scenario.workload is None:
        return [PayloadInfo(one.name, one.content_type, len(one.body), one.sha256) for one in payloads]
    size = sum(len(one.body) for one in payloads)
    return [PayloadInfo(f"workload {scenario.workload.kind}", payloads[0].content_type, size, workload_hash(payloads))]


def workload_hash(payloads: Sequence[Payload]) -> str:
    """Return one hash for all requests of a workload, in their order."""
    return hashlib.sha256("".join(one.sha256 for one in payloads).encode()).hexdigest()

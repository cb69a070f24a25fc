"""``python -m producer_api`` with little patience for slow clients: how long it waits for them is no setting."""

from __future__ import annotations

from producer_api.__main__ import main
from producer_api.http import body, guarded_protocol

PATIENCE_S = 3.0

if __name__ == "__main__":
    guarded_protocol.GuardedProtocol.head_timeout_s = PATIENCE_S
    body.BODY_TIMEOUT_S = PATIENCE_S
    main()

"""``python -m producer_api``: serve REST on HEADRACE_HOST:HEADRACE_PORT until SIGTERM."""

from __future__ import annotations

import os
import sys

from shared.settings import Settings, SettingsError

from . import server
from .app import create_app
from .metrics import new_registry, queue_metrics
from .redis_queue import RedisQueue


def main() -> int:
    """Run the front end; returns the exit code."""
    try:
        settings = Settings.from_env(os.environ)
        listener = server.bind(settings.host, settings.port)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    server.configure_logging(settings.log_level)
    registry = new_registry()
    queue = RedisQueue(settings, queue_metrics(registry))
    app = create_app(settings, queue, registry, commit=os.environ.get("GIT_COMMIT") or None)
    return server.run(app, listener, server.drain_s(settings))


if __name__ == "__main__":
    sys.exit(main())

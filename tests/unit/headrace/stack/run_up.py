"""Runs ``headrace up`` with small stand-ins for the front end, the consumers and the probe; Redis is the real one.

The front end's takes connections. Each stand-in prints its arguments and the address of Redis that it was given.
"""

from __future__ import annotations

import os
import sys

from headrace.stack.plan import Commands
from headrace.stack.up import up

_SERVE = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("args", *sys.argv[1:], os.environ["HEADRACE_REDIS_URL"], os.environ["HEADRACE_PORT"], flush=True)
signal.sigwait([signal.SIGTERM])
print("stopped", flush=True)
"""


_LISTEN = """
import os, socket
listener = socket.create_server((os.environ.get("HEADRACE_HOST", "127.0.0.1"), int(os.environ["HEADRACE_PORT"])))
"""


def main() -> int:
    python = (sys.executable, "-S", "-E", "-c")
    commands = Commands(
        front_end=(*python, _LISTEN + _SERVE), consumer=(*python, _SERVE), wait=(*python, "print('answered')")
    )
    return up(os.environ, commands)


if __name__ == "__main__":
    sys.exit(main())

"""Can other machines reach the address that a server listens on? [I/O: resolves names]"""

from __future__ import annotations

import ipaddress
import socket

from shared.settings import Settings, SettingsError


def reaches_beyond(host: str) -> bool:
    """Say whether other machines may reach what listens on ``host``; False when nothing can, for want of an address."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return not all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def check_exposure(settings: Settings) -> None:
    """Refuse a front end that anybody on the network could use, unless the operator has said so in as many words.

    Raises:
        SettingsError: it would listen beyond this machine and ask for no key.
    """
    if settings.keys_file is None and not settings.allow_anonymous and reaches_beyond(settings.host):
        raise SettingsError(
            f"HEADRACE_HOST ({settings.host}) is reachable from other machines, and HEADRACE_KEYS_FILE is not set, so "
            "everybody could use the models; set it, or HEADRACE_ALLOW_ANONYMOUS=1 if you want that."
        )

"""Variables that Kubernetes and Docker put beside ours. Pure.

For a Service named ``headrace-ui`` Kubernetes sets ``HEADRACE_UI_SERVICE_HOST``, ``HEADRACE_UI_PORT=tcp://10.0.0.1:80``
and their like in every pod of its namespace, unless the pod says ``enableServiceLinks: false``. They are none of ours,
and are known by their name and the shape of their value together: a setting that was mistyped is neither.
Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

# Names of Services and of their ports may have two hyphens in a row.
_SERVICE = r"HEADRACE(?:_+[A-Z0-9]+)*"
_PORT = re.compile(rf"{_SERVICE}_PORT(?:_[0-9]+_(?:TCP|UDP|SCTP))?")
_PART = re.compile(rf"{_SERVICE}_PORT_(?P<number>[0-9]+)_(?P<protocol>TCP|UDP|SCTP)_(?P<part>PROTO|PORT|ADDR)")
_HOST = re.compile(rf"{_SERVICE}_SERVICE_HOST")
_NUMBER = re.compile(rf"{_SERVICE}_SERVICE_PORT(?:_+[A-Z0-9]+)*")
_URL = re.compile(r"(?:tcp|udp|sctp)://(?P<host>\[[^][]+\]|[^][:/]+):(?P<port>[0-9]+)")
_SHOWN = 2


def is_link(name: str, value: str) -> bool:
    """Say whether this variable belongs to a Service whose name begins with ``headrace``."""
    # HEADRACE_SERVICE_PORT is a port number of the Service headrace, or the address of headrace-service.
    return _is_place(name, value) or _is_part(name, value) or _is_host(name, value) or _is_number(name, value)


def _is_place(name: str, value: str) -> bool:
    url = _URL.fullmatch(value) if _PORT.fullmatch(name) else None
    return url is not None and _is_address(url["host"].strip("[]")) and _is_port(url["port"])


def _is_part(name: str, value: str) -> bool:
    part = _PART.fullmatch(name)
    if part is None:
        return False
    if part["part"] == "ADDR":
        return _is_address(value)
    return value == (part["number"] if part["part"] == "PORT" else part["protocol"].lower())


def _is_host(name: str, value: str) -> bool:
    return _HOST.fullmatch(name) is not None and _is_address(value)


def _is_number(name: str, value: str) -> bool:
    return _NUMBER.fullmatch(name) is not None and _is_port(value)


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` without such variables."""
    return {name: value for name, value in environment.items() if not is_link(name, value)}


def notice(environment: Mapping[str, str]) -> str | None:
    """Return the sentence with which a process says once that it ignores them; None when there are none."""
    names = sorted(name for name, value in environment.items() if is_link(name, value))
    if not names:
        return None
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"Ignored {', '.join(names[:_SHOWN])}{more}: Kubernetes sets them for a Service whose name begins with "
        "headrace; `enableServiceLinks: false` in the pod keeps them away."
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) <= 65535 and len(text) <= 5

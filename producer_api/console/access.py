"""Who may look at the console, and who may act through it. Pure, but for looking at the address once at the start.

Without API keys the setting decides, and where it leaves that open, whom the server can be reached by. With keys each
key has a role of its own, and the setting is the most that any of them may do. A browser sends no credentials of its
own accord here (there are no cookies), so another page could act only where no key is needed; what it can send without
asking first is refused, and so are its name and origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from producer_api.auth import Client
from shared.net.exposure import reaches_beyond
from shared.settings import Settings
from shared.wire.outcomes import FORBIDDEN, UNSUPPORTED_MEDIA_TYPE, RequestError, malformed

MARK: Final = "Headrace-Console"
"""Header of every action, with the value 1: a page of another origin cannot send it without asking first."""

_OF_PROXIES: Final = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
_PORTS: Final = {"http": "80", "https": "443"}


class Role(StrEnum):
    """What a request may do on the console.

    Attributes:
        NONE: nothing.
        READ: look at everything there.
        OPERATE: act, too: requeue and drop dead letters, cancel bulk batches, pause lanes.
    """

    NONE = "none"
    READ = "read"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Right:
    """What one request may do.

    Attributes:
        role: the role.
        why: a sentence that says why it is not more; empty when it may do everything.
    """

    role: Role
    why: str = ""


_ALL: Final = Right(Role.OPERATE)
_OFF: Final = Right(Role.NONE, "The console is switched off here: HEADRACE_CONSOLE=off.")
_SET_TO_READ: Final = Right(Role.READ, "The console of this server only shows: HEADRACE_CONSOLE=read.")
_NO_ROLE: Final = Right(
    Role.NONE, 'Your API key has no role on the console: give it one in the file of keys, such as console = "read".'
)
_READER: Final = Right(Role.READ, 'Your API key may look at the console and change nothing: its role there is "read".')
_FROM_AFAR: Final = Right(
    Role.READ,
    "The console only shows, because other machines reach this server and it asks for no API key: set "
    "HEADRACE_KEYS_FILE and give a key the role, or set HEADRACE_CONSOLE=operate.",
)
_THROUGH_A_PROXY: Final = Right(
    Role.READ,
    "The console only shows, because your request came through a proxy and this server asks for no API key: set "
    "HEADRACE_KEYS_FILE and give a key the role, or set HEADRACE_CONSOLE=operate.",
)


class Access:
    """Decides for all requests of an application.

    Args:
        setting: ``HEADRACE_CONSOLE``: ``auto``, ``off``, ``read`` or ``operate``.
        has_keys: the server asks for API keys.
        is_reachable: other machines may reach the server, or any page may pretend to be from it.
        own_origin: scheme and authority under which clients know the server, besides what they send as ``Host``.
    """

    def __init__(self, setting: str, *, has_keys: bool, is_reachable: bool, own_origin: str | None = None) -> None:
        self._setting, self.has_keys, self._is_reachable = setting, has_keys, is_reachable
        self._own = None if own_origin is None else _authority(own_origin)

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """Make it; resolves the address that the server listens on."""
        is_reachable = reaches_beyond(settings.host) or "*" in (settings.allowed_hosts or ())
        return cls(
            settings.console,
            has_keys=settings.keys_file is not None,
            is_reachable=is_reachable,
            own_origin=settings.public_url,
        )

    def right(self, client: Client | None, headers: Headers) -> Right:
        """Return what a request may do.

        Args:
            client: the holder of its API key.
        """
        if self._setting == "off":
            return _OFF
        if self.has_keys:
            return self._of_key(None if client is None else client.key.console)
        if self._setting == "read":
            return _SET_TO_READ
        if self._setting == "operate":
            return _ALL
        if self._is_reachable:
            return _FROM_AFAR
        return _THROUGH_A_PROXY if any(name in headers for name in _OF_PROXIES) else _ALL

    def _of_key(self, role: str | None) -> Right:
        if role is None:
            return _NO_ROLE
        if role == Role.READ:
            return _READER
        return _SET_TO_READ if self._setting == "read" else _ALL

    def check_origin(self, headers: Headers) -> None:
        """Refuse a page of another origin. With keys it has none to send, and proxies may change the ``Host``.

        Raises:
            RequestError: ``FORBIDDEN``.
        """
        origin = headers.get("origin")
        if origin is None or self.has_keys:
            return
        authority = _authority(origin)
        scheme = origin.partition(":")[0]
        if authority is None or authority not in (self._own, _authority(f"{scheme}://{headers.get('host', '')}")):
            raise RequestError(FORBIDDEN, "Pages of other origins may not use the console.", field="Origin")


def right_of(request: Request) -> Right:
    """Return what a request may do.

    Raises:
        RequestError: ``FORBIDDEN``: a page of another origin sent it.
    """
    access: Access = request.app.state.console_access
    access.check_origin(request.headers)
    return access.right(request.scope.get("api_client"), request.headers)


def require_read(request: Request) -> None:
    """Refuse a request that may not look at the console.

    Raises:
        RequestError: ``FORBIDDEN``.
    """
    right = right_of(request)
    if right.role is Role.NONE:
        raise RequestError(FORBIDDEN, right.why)


def require_operate(request: Request) -> None:
    """Refuse a request that may not act, or that another web site may have made a browser send.

    Raises:
        RequestError: ``FORBIDDEN``, ``MALFORMED``, ``UNSUPPORTED_MEDIA_TYPE``.
    """
    right = right_of(request)
    if right.role is not Role.OPERATE:
        raise RequestError(FORBIDDEN, right.why)
    if request.headers.getlist(MARK) != ["1"]:
        raise malformed(f"An action of the console needs the header {MARK}: 1.", MARK)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError(
            UNSUPPORTED_MEDIA_TYPE, "An action of the console needs Content-Type: application/json.", field="body"
        )


def who(request: Request) -> str:
    """Return the name of the API key with which a request was sent; ``anonymous`` without one."""
    client: Client | None = request.scope.get("api_client")
    return "anonymous" if client is None else client.key.name


def _authority(url: str) -> tuple[str, str] | None:
    """Return name and port of an origin; None for what is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    return parts.hostname.removesuffix("."), str(port or _PORTS[parts.scheme])

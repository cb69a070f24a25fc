"""Where this machine reaches the front end that its settings describe. Pure."""

from __future__ import annotations

from shared.settings import Settings, SettingsError

from .local_http import reachable


def base_url(settings: Settings) -> str:
    """Return the address at which this machine reaches the front end, such as ``http://127.0.0.1:8000``.

    Raises:
        SettingsError: the settings leave the port to the front end.
    """
    if settings.port == 0:
        raise SettingsError("HEADRACE_PORT is 0, which says no port; name the front end with --url.")
    scheme = "http" if settings.tls_cert_file is None else "https"
    return f"{scheme}://{reachable_in_address(settings.host)}:{settings.port}"


def reachable_in_address(host: str) -> str:
    """Return a host as an address has it: one that this machine reaches, IPv6 in brackets."""
    host = reachable(host)
    return f"[{host}]" if ":" in host else host

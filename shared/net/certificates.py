"""Checks certificate and private key files before TLS uses them [I/O]."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from shared import files
from shared.files import FileRefused
from shared.settings import SettingsError


def check_pair(cert: str, key: str, cert_name: str, key_name: str) -> None:
    """Refuse a certificate and its key that cannot be used.

    Args:
        cert, key: paths of files in PEM, which may be the same.
        cert_name, key_name: what names them, such as ``HEADRACE_TLS_CERT_FILE``; begins the sentence.

    Raises:
        SettingsError: one sentence, which names the file if it cannot be read.
    """
    _check_file(cert, cert_name)
    _check_file(key, key_name)
    try:
        # Without a passphrase to ask for, an encrypted key is an error and no prompt.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = cert_name if cert_name == key_name else f"{cert_name} and {key_name}"
        raise SettingsError(f"{names} cannot be used: {_why(error)}.") from None


def check_address(url: str) -> None:
    """Refuse an address of Redis whose certificates cannot be used; the password's file may still come.

    Raises:
        SettingsError: one sentence, which names the option and the file.
    """
    options = dict(parse_qsl(urlsplit(url).query))
    authorities, folder = options.get("ssl_ca_certs"), options.get("ssl_ca_path")
    if authorities is not None:
        _check_authorities(authorities, _option("ssl_ca_certs"))
    if folder is not None and not Path(folder).is_dir():
        raise SettingsError(f"{_option('ssl_ca_path')}: {files.shown(folder)} cannot be used: there is no such folder.")
    _check_own(options)


def _check_own(options: Mapping[str, str]) -> None:
    cert, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if cert is not None:
        names = _option("ssl_certfile"), _option("ssl_certfile" if key is None else "ssl_keyfile")
        check_pair(cert, cert if key is None else key, *names)
    elif key is not None:
        raise SettingsError(f"{_option('ssl_keyfile')} needs ssl_certfile beside it: a key is of no use alone.")


def _check_authorities(path: str, name: str) -> None:
    _check_file(path, name)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{name}: {files.shown(path)} cannot be used: {_why(error)}.") from None


def _check_file(path: str, name: str) -> None:
    try:
        files.read(path, files.PEM_BYTES)
    except FileRefused as error:
        raise SettingsError(f"{name}: {files.shown(path)} cannot be used: {error}.") from None


def _option(name: str) -> str:
    return f"HEADRACE_REDIS_URL, option {name}"


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)

"""What of a Redis server's settings matters to a queue, and what each should be. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from headrace.findings import Finding

LOOKED_AT: Final = (
    "maxmemory-clients",
    "client-output-buffer-limit",
    "min-string-size-avoid-copy-reply",
    "acllog-max-len",
    "timeout",
    "tcp-keepalive",
)
"""The settings that :func:`judge` reads; a server need not know all of them."""

LEAST_COPIED: Final = 1 << 30
CROWDED_SHARE: Final = 0.8


def judge(settings: Mapping[str, str]) -> Iterator[Finding]:
    """Judge what CONFIG GET says of them."""
    yield _unread(settings)
    yield _refusals(settings)
    yield _idle(settings)


def _unread(settings: Mapping[str, str]) -> Finding:
    check = "unread answers"
    if settings.get("maxmemory-clients", "0") in ("0", "0%"):
        text = "Clients that do not read can fill the memory of all; set maxmemory-clients to 60%."
        return Finding(check, "warning", text)
    words = settings.get("client-output-buffer-limit", "").split()
    normal = dict(zip(words[::4], words[1::4], strict=False)).get("normal", "0")
    if normal == "0":
        text = "One client may leave any number of bytes unread; set client-output-buffer-limit"
        return Finding(check, "warning", f"{text} to `normal 640mb 64mb 60`.")
    copied = settings.get("min-string-size-avoid-copy-reply", "")
    if copied.isdecimal() and int(copied) < LEAST_COPIED:
        text = "This server sends large values without copying them, and counts them for no client; set"
        return Finding(check, "warning", f"{text} min-string-size-avoid-copy-reply to 2147483647.")
    return Finding(check, "ok", "Clients that do not read are closed before they fill the memory.")


def _refusals(settings: Mapping[str, str]) -> Finding:
    most = settings.get("acllog-max-len", "0")
    if most != "0":
        text = f"The server remembers {most} refused commands with their keys, however long; set acllog-max-len to 0"
        return Finding("refused commands", "warning", f"{text} where you do not trust each user.")
    return Finding("refused commands", "ok", "They are not kept.")


def _idle(settings: Mapping[str, str]) -> Finding:
    timeout_s, keepalive_s = settings.get("timeout", "0"), settings.get("tcp-keepalive", "300")
    if timeout_s != "0":
        text = f"The server closes connections that were idle for {timeout_s} s; set timeout to 0."
        return Finding("idle connections", "warning", text)
    if keepalive_s == "0":
        text = "The server never notices that a client is gone; set tcp-keepalive to 60."
        return Finding("idle connections", "warning", text)
    return Finding("idle connections", "ok", "The server keeps them, and checks that they are alive.")


def judge_use(info: Mapping[str, Any], own_database: int = 0) -> Iterator[Finding]:
    """Judge what INFO says of how the server is run and used; what is well is not told."""
    if info.get("cluster_enabled") == 1:
        text = "The server runs in cluster mode, which Headrace does not; use one without (docs/redis.md)."
        yield Finding("cluster", "problem", text)
    if info.get("role") == "slave":
        text = f"This is a replica of {info.get('master_host', 'another server')}, which takes no requests"
        yield Finding("primary", "problem", f"{text}; name the primary, or its Sentinels.")
    others = sorted(int(name[2:]) for name in info if name.startswith("db") and name[2:].isdecimal())
    others = [number for number in others if number != own_database]
    if others:
        named = ", ".join(f"{number} ({info[f'db{number}']['keys']} keys)" for number in others)
        text = f"There are keys in database {named}; Headrace uses {own_database}, and never cleans up others."
        yield Finding("databases", "warning", text)
    closed = int(info.get("evicted_clients", 0)) + int(info.get("client_output_buffer_limit_disconnections", 0))
    if closed:
        text = f"The server has closed {closed} clients since its start because they did not read their answers"
        yield Finding("closed clients", "warning", f"{text}; CLIENT LIST shows which clients have much (omem, qbuf).")
    clients, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if most and clients > CROWDED_SHARE * most:
        yield Finding("connections", "warning", f"{clients} of {most}; beyond that the server refuses new ones.")

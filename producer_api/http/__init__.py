"""Bytes on a socket: the server, its limits, and the short way. Only here are uvicorn and ASGI known."""

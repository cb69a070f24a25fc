"""Bytes on a socket: the server, its limits, and the express way. Only here is uvicorn known."""

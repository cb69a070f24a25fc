"""Requests from their first byte to their response, in whatever dialect."""

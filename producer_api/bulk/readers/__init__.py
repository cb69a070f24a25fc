"""Readers of uploads: JSON Lines, multipart, zips. Bytes in, items out. Pure."""

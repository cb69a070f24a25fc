"""Generating text token by token: the interface of engines, and what they have in common."""

"""Checks of what is installed and of what is set, before anything runs."""

"""Headrace's load generator and performance gate: a black-box client of the REST front end."""

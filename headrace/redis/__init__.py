"""Redis as operators set it up: access, users, rules, server settings."""

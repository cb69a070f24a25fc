"""What every Headrace process agrees on: the wire format, key names, outcomes, settings, and Redis access."""

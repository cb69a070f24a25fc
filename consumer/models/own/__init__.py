"""Family ``python``: the user's own model, and the checks around it."""

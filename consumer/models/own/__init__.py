"""Family ``python``: a model of the user's own, and the checks around it."""

"""Later requests: what a client asks now and fetches later, by an id."""

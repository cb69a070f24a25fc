"""Speaking to Redis: clients, links, errors, the functions, the embedded server."""

"""The queue as a consumer sees it: the interface, and Redis behind it."""

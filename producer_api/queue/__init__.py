"""The queue as a front end sees it: the interface, and Redis behind it."""

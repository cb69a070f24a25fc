"""The result store as a front end uses it: in threads, with limits of time."""

"""The front end: REST in, msgpack onto a Redis stream, replies back."""

"""What passes between processes: requests and replies as msgpack, bodies in shared memory, outcomes."""

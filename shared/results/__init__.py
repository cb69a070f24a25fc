"""The result store: what is too large or kept too long for Redis, under names, each with a time limit."""

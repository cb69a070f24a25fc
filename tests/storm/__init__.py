"""A storm over a whole stack: something is killed, paused, restarted or cut every second, every id accounted for."""

"""A whole stack on one machine: what is started, supervised, restarted and stopped."""

"""Sending a load: plan, connections, carriers, and what became of each request."""

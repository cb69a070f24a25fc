"""The shapes of bodies, and long ones parsed a little at a time, so that the event loop serves others. Pure."""

"""`headrace top`: what the console shows, in a terminal."""

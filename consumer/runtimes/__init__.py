"""What runs a network: one small interface, and a file for each library behind it."""

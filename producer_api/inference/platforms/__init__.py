"""What hosting platforms expect of a server: one file each."""

"""What the console shows and does, on the server's side."""

"""What goes through the result store: large bodies on their way in, large and long-kept results on their way out."""

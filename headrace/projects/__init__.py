"""`headrace new`: a project to begin with."""

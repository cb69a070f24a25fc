"""Language models from folders, packages and GGUF files."""

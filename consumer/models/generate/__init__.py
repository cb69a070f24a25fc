"""Family ``generate``: models that generate text token by token."""

"""Connections that the front end opens to addresses of its clients' choice: webhooks, bodies by reference."""

"""Names and sockets that our servers listen on."""

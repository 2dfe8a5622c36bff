"""How bytes come and go: sockets, TLS, WebSocket, the turns of the loop, timers. No database."""

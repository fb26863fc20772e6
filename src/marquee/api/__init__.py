"""The HTTP API: `app.create_app` for ASGI servers, `server.serve` as a process."""

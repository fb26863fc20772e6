"""Answer every request with 200, on the port of each server that this stands in for, whatever it is told."""

import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORTS = (3000, 3100, 8000, 8080, 9090, 9093, 9100, 9102, 9115, 9187, 12345)


class Answers(BaseHTTPRequestHandler):
    """One answer for everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if "migrate" not in "".join(sys.argv):  # `airflow db migrate` ends
    for port in PORTS:
        server = ThreadingHTTPServer(("0.0.0.0", port), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.pause()

"""
Stands in for VersityGW: its command line, its environment and its health check, and OpenStack Swift behind.

    ROOT_ACCESS_KEY=… ROOT_SECRET_KEY=… versitygw --port :7070 --region us-east-1 --health /health posix /data

As there, each folder in /data is a bucket, but objects are kept in a folder of Swift's own beside them.
"""

import argparse
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import eventlet
from swift.common.middleware.tempauth import TempAuth
from swift.common.swob import Request

import swift_server

ACCOUNT = "AUTH_root"
KEPT = ".swift"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", required=True)
    parser.add_argument("--region", choices=["us-east-1"], required=True)  # signatures name it; Swift's own
    parser.add_argument("--health", required=True)
    parser.add_argument("backend", choices=["posix"])
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    key, secret = os.environ["ROOT_ACCESS_KEY"], os.environ["ROOT_SECRET_KEY"]
    host, _, port = asked.port.rpartition(":")

    def around(app: Any) -> Callable[..., Iterable[bytes]]:
        # TempAuth's configuration knows users of the form account:name alone.
        tempauth(app).users = {key: {"key": secret, "url": f"$HOST/v1/{ACCOUNT}", "groups": [".admin"]}}
        for folder in asked.folder.iterdir():
            if folder.name != KEPT and folder.is_dir():
                make_bucket(app, folder.name)

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if environ["PATH_INFO"] == asked.health:
                environ["PATH_INFO"] = "/healthcheck"
            return app(environ, start_response)

        return answer

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    swift_server.start(asked.folder / KEPT, host or "0.0.0.0", int(port), around)
    while True:
        eventlet.sleep(3600)


def tempauth(app: Any) -> TempAuth:
    while not isinstance(app, TempAuth):
        app = app.app
    return app


def make_bucket(app: Any, name: str) -> None:
    """As nobody that has to be asked for a key; one that is there already stays as it is."""
    anyone = {"swift.authorize_override": True, "swift.authorize": lambda _: None}
    request = Request.blank(f"/v1/{ACCOUNT}/{name}", environ={"REQUEST_METHOD": "PUT", **anyone})
    made = request.get_response(app)
    assert made.is_success, f"{name}: {made.status} {made.body!r}"


if __name__ == "__main__":
    main()

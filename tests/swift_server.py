"""
OpenStack Swift in one process, all four servers of it, for tests and benchmarks of the archive.

Run by the Python of `.venv-swift`: `python swift_server.py FOLDER PORT [CLOCK_OFFSET_SECONDS]`. The S3 API
answers on PORT of the loopback, with access key `test:tester` and secret `testing123`; what is stored stays
in FOLDER, so that a server that was killed can be started again. Who imports it starts it by `start`.
"""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLOCK_OFFSET = float((*sys.argv, 0)[3]) if __name__ == "__main__" else 0.0

_true_time = time.time
if CLOCK_OFFSET:  # before anything of Swift takes the function
    time.time = lambda: _true_time() + CLOCK_OFFSET

import eventlet  # noqa: E402
from swift.common import constraints  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.utils import monkey_patch, set_swift_dir  # noqa: E402

monkey_patch()

from eventlet import wsgi  # noqa: E402
from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

PIPELINE = (
    "catch_errors gatekeeper healthcheck s3api tempauth copy slo dlo versioned_writes symlink proxy-server"
)
COMMON = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
devices = {folder}/devices
swift_dir = {folder}
mount_check = false
log_address = /dev/null
log_level = CRITICAL
"""
BACKEND = "[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
PROXY = f"""[pipeline:main]
pipeline = {PIPELINE}
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing123 .admin
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:s3api]
use = egg:swift#s3api
storage_domain = localhost
[filter:copy]
use = egg:swift#copy
""" + "".join(
    f"[filter:{name}]\nuse = egg:swift#{name}\n"
    for name in ("catch_errors", "gatekeeper", "healthcheck", "slo", "dlo", "symlink")
)


def start(folder: Path, host: str, port: int, around: Callable[[Any], Any] = lambda app: app) -> None:
    """
    Start all four servers; they answer while the calling thread waits by means of eventlet.

    Args:
        folder: where everything is kept.
        host: of the S3 API, with `port`; the other servers are on the loopback alone.
        around: is given the proxy's application and returns what is served in its place.
    """
    (folder / "devices" / "d1").mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = marquee\n[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    set_swift_dir(str(folder))
    sockets = {name: listen("127.0.0.1", 0) for name in ("account", "container", "object")}
    for name, sock in sockets.items():
        ring = RingBuilder(4, 1, 1)  # 16 partitions, one replica
        backend = sock.getsockname()[1]
        ring.add_dev(
            {"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": backend, "device": "d1"}
        )
        ring.rebalance()
        ring.get_ring().save(str(folder / f"{name}.ring.gz"))
    for name, sock in sockets.items():
        serve(sock, load(folder, name, sock))
    sock = listen(host, port)
    serve(sock, around(load(folder, "proxy", sock)))


def listen(host: str, port: int) -> socket.socket:
    return eventlet.listen((host, port), reuse_addr=True, backlog=256)


def load(folder: Path, name: str, sock: socket.socket) -> Any:
    path = folder / f"{name}.conf"
    body = PROXY if name == "proxy" else BACKEND.format(name=name)
    path.write_text(COMMON.format(port=sock.getsockname()[1], folder=folder) + body)
    return loadapp(str(path), global_conf={"log_name": name})


def serve(sock: socket.socket, app: Any) -> None:
    eventlet.spawn(
        wsgi.server,
        sock,
        app,
        log=None,
        log_output=False,
        protocol=SwiftHttpProtocol,
        capitalize_response_headers=False,  # S3 clients want "ETag"
        url_length_limit=constraints.MAX_REQUEST_LINE,
        socket_timeout=60,
    )


def main() -> None:
    start(Path(sys.argv[1]).resolve(), "127.0.0.1", int(sys.argv[2]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    # Whoever started this is gone when its end of the pipe closes.
    while eventlet.green.os.read(sys.stdin.fileno(), 1):
        pass


if __name__ == "__main__":
    main()

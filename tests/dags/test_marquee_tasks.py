"""What looks for drift, in a process of Airflow's own Python, before an API that does not always answer."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

DAGS = Path(__file__).parents[2] / "dags"
ANSWERS = [
    (503, {"type": "/problems/overloaded"}),
    (401, {"type": "/problems/unauthorized"}),
    (200, {"alarms": [{"alarm_id": 7, "kind": "preferences", "resolved_at": None}]}),
]
SCRIPT = """
import asyncio, json, logging, sys

logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True, format="%(levelname)s %(message)s")
from marquee_tasks import DriftTrigger


async def first():
    async for event in DriftTrigger().run():
        return event.payload


print(json.dumps(asyncio.run(asyncio.wait_for(first(), 60))))
"""


@pytest.fixture
def api() -> Iterator[str]:
    """The URL of what gives the answers one after the other, the last of them again and again."""
    left = list(ANSWERS)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("no_proxy")
def test_drift_is_looked_for_again_after_no_answer_and_a_refusal_is_an_error_in_the_log(
    api: str, airflow_python: Path, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW_CONN_MARQUEE_API": json.dumps({"conn_type": "http", "host": api, "password": "mq_a_secret"}),
        "MARQUEE_AIRFLOW_DRIFT_SECONDS": "0.05",
        "PYTHONPATH": str(DAGS),
    }
    ended = subprocess.run(
        [airflow_python, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == {"alarm_id": "7", "kind": "preferences"}
    said = ended.stdout + ended.stderr
    later, refused = (
        next(line for line in said.splitlines() if name in line) for name in ("overloaded", "unauthorized")
    )
    assert "later" in later
    assert "ERROR" in refused.upper()
    assert "secret" not in said

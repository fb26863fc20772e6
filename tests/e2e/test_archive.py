"""`marquee up` with an archive: an empty home, and a service that goes away and comes back."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from free_ports import free_port
from waiting import until

from marquee.config import ObjectSettings
from marquee.store.remote import RemoteStore

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

DEADLINE_SECONDS = 180


@pytest.fixture
def swift(make_swift: Callable[..., Any]) -> Any:
    """One that may be killed."""
    return make_swift()


@pytest.fixture
def archive(swift: Any) -> ObjectSettings:
    """Of the deployment; an archive that is away is noticed at once."""
    return ObjectSettings(**{**swift.settings(), "retries": 0})


@pytest.fixture
def environment(archive: ObjectSettings, tmp_path: Path) -> dict[str, str]:
    """All that a newcomer sets."""
    port = free_port()
    chosen = {
        f"MARQUEE_OBJECTS__{name.upper()}": str(value)
        for name, value in archive.model_dump(exclude_unset=True).items()
    }
    return {
        **os.environ,
        **chosen,
        "MARQUEE_HOME": str(tmp_path / "home"),
        "MARQUEE_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def marquee(environment: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a running `marquee up`."""
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "marquee.cli", "up"], env=environment, cwd=tmp_path,
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    url = f"http://127.0.0.1:{environment['MARQUEE_PORT']}"
    try:
        with httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, trust_env=False) as client:

            def ready() -> bool:
                with suppress(httpx.HTTPError):
                    return client.get("/health").json()["status"] == "ok"
                return False

            until(ready, (tmp_path / "out").read_text, process)
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0, (tmp_path / "out").read_text()
    finally:
        process.kill()


def test_deployment_works_on_while_its_archive_is_away_and_sends_everything_later(
    marquee: httpx.Client, environment: dict[str, str], archive: ObjectSettings, swift: Any, tmp_path: Path
) -> None:
    remote = RemoteStore(archive)
    objects = tmp_path / "home/objects"

    def run(*arguments: str, code: int = 0) -> Any:
        command = [sys.executable, "-m", "marquee.cli", *arguments, "--json"]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False)
        assert ended.returncode == code, ended.stderr.decode()
        return json.loads(ended.stdout) if code == 0 else ended.stderr.decode()

    def here() -> set[str]:
        return {str(path.relative_to(objects)) for path in objects.rglob("*") if path.is_file()}

    def there() -> set[str]:
        return {item.key for item in remote.list() if not item.key.startswith(("tables", "backups"))}

    def finished(pipeline: str) -> None:
        answer = marquee.post(f"/run/{pipeline}")
        assert answer.status_code == 200, answer.text

    def backed_up() -> bool:
        runs = marquee.get("/v1/runs").raise_for_status().json()["runs"]
        return any((one["pipeline"], one["status"]) == ("backup", "succeeded") for one in runs)

    until(
        lambda: {key.partition("/")[0] for key in there()} == {"raw", "snapshots", "bundles", "predictions"}
    )
    until(lambda: there() >= here())
    until(backed_up)  # by the worker itself
    made = run("backup")
    assert run("backup", "verify", made["backup"])["whole"]
    before = there()

    swift.kill()
    finished("model-inference")
    finished("prepare-data")
    event = {"user_id": 1, "content_id": 862, "watch_seconds": 5400, "rating": 8.5, "popularity": 60.0}
    assert marquee.post("/predict", json=event).status_code == 200
    assert "cannot be reached" in run("backup", code=1)
    made_meanwhile = here() - before
    assert made_meanwhile

    swift.start()
    sent = run("archive")
    assert sent["refused"] == {}
    assert there() >= here()
    assert made_meanwhile <= there()
    assert run("backup")["rows"] >= made["rows"]
    assert run("drill", "--users", "20")["passed"]
    assert not [item.key for item in remote.list() if "drill" in item.key]

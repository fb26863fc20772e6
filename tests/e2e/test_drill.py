"""Everything is lost and comes back: the drill, as an operator runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_drill_brings_back_every_row_and_everyones_recommendations(tmp_path: Path) -> None:
    """In a process of its own, with a home and services that it must not touch; nothing listens there."""
    environment = {
        **os.environ,
        "MARQUEE_HOME": str(tmp_path / "home"),
        "MARQUEE_DATABASE__URL": "postgresql://nobody@127.0.0.1:1/lived_in",
        "MARQUEE_MLFLOW__TRACKING_URI": "http://127.0.0.1:1",
        "MARQUEE_FEATURES__STORE": "feast",
        "MARQUEE_FEATURES__ONLINE": "redis",
        "MARQUEE_FEATURES__ONLINE_URL": "redis://127.0.0.1:1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "marquee.cli", "drill", "--json", "--users", "60"]
    ended = subprocess.run(
        [*command, "--folder", str(tmp_path / "scratch")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["passed"]
    assert report["different"] == []
    assert report["champion"].startswith("bundles/ease/")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not (tmp_path / "home").exists()

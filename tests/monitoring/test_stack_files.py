"""What of the stack's configuration depends on where things run."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from marquee.config import Settings
from marquee.monitoring import stack
from marquee.monitoring.stack_files import render

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_defaults_are_what_is_checked_in(tmp_path: Path) -> None:
    settings = Settings()
    render(tmp_path, stack.targets(settings), settings.ops)
    for path in (DEPLOY / "prometheus/targets").glob("*.yml"):
        made = yaml.safe_load((tmp_path / "prometheus/targets" / path.name).read_text("utf-8"))
        assert made == yaml.safe_load(path.read_text("utf-8")), path.name
    for name in ("prometheus/prometheus.yml", "alertmanager/alertmanager.yml"):
        made = yaml.safe_load((tmp_path / name).read_text("utf-8"))
        assert made == yaml.safe_load((DEPLOY / name).read_text("utf-8")), name
    assert (tmp_path / "loki/rules/fake/logs.yml").read_text() == (DEPLOY / "loki/rules/logs.yml").read_text()


@pytest.mark.slow
def test_wheel_brings_the_configuration(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, tmp_path], cwd=DEPLOY.parent, check=True, capture_output=True
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    ask = "from marquee.monitoring.stack_files import deploy_folder; print(deploy_folder())"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder = Path(done.stdout.strip())
    assert folder == tmp_path / "installed" / "marquee" / "deploy"
    for path in (DEPLOY / "prometheus/rules").glob("*.yml"):
        assert (folder / "prometheus/rules" / path.name).read_bytes() == path.read_bytes()
    assert (folder / "loki/rules/logs.yml").is_file()

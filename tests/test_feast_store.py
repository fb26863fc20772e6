"""Without Feast everything else works; with it, its suite runs in the environment that has it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from marquee.config import Settings, load_settings
from marquee.errors import ConfigError
from marquee.pipelines.features import historical_join

REPOSITORY = Path(__file__).parents[1]
FEAST_PYTHON = REPOSITORY / ".venv-feast" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(2400)
def test_feast_passes_its_suite() -> None:
    """Skew, leaks, PostgreSQL and training, in the environment that has Feast."""
    python = FEAST_PYTHON
    if not python.exists():
        if importlib.util.find_spec("feast") is None:
            told = "Feast: run `make setup-feast`"
            pytest.fail(told) if os.environ.get("CI") == "true" else pytest.skip(told)
        python = Path(sys.executable)
    options = ["-q", "-p", "no:cacheprovider", "-c", str(REPOSITORY / "pyproject.toml")]
    done = subprocess.run(
        [str(python), "-m", "pytest", *options, str(REPOSITORY / "tests/feast_suite.py")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.skipif(importlib.util.find_spec("feast") is not None, reason="Feast is installed here")
def test_without_the_extra_people_are_told_what_to_install(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, features={"store": "feast"})
    with pytest.raises(ConfigError, match=r"pip install 'marquee-recsys\[feast\]' .*make setup-feast"):
        historical_join(settings)


def test_offline_store_that_loses_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_FEATURES__STORE", "feast")
    monkeypatch.setenv("MARQUEE_FEATURES__OFFLINE", "dask")
    with pytest.raises(ConfigError, match="loses rows"):
        load_settings()


def test_address_of_another_kind_of_online_store_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_FEATURES__STORE", "feast")
    monkeypatch.setenv("MARQUEE_FEATURES__ONLINE", "redis")
    monkeypatch.setenv("MARQUEE_FEATURES__ONLINE_URL", "postgresql://127.0.0.1/marquee")
    with pytest.raises(ConfigError, match="redis"):
        load_settings()

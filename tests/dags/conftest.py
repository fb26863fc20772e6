"""The DAGs' modules, which lie outside of the package, and the Python that has Airflow."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "dags"), str(Path(__file__).parent)]


@pytest.fixture(scope="session")
def airflow_python(missing: Callable[[str], None]) -> Path:
    """The Python that has Airflow."""
    python = Path(os.environ.get("MARQUEE_TEST_AIRFLOW", REPOSITORY / ".venv-airflow/bin/python"))
    if not python.is_file():
        missing(f"Airflow ({python}; make setup-airflow)")
    return python


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback addresses are reached directly, whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

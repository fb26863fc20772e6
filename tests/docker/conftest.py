"""Fixtures of the tests that build and run containers."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from engine import BASES, Engine, UnavailableError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lies here runs by `make test-docker` alone."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.docker)


@pytest.fixture(scope="session")
def engine(not_run: Callable[..., None]) -> Iterator[Engine]:
    """A Docker engine of our own, with stand-ins for public bases; its mode is builds."""
    try:
        opened = Engine.start()
    except UnavailableError as error:
        not_run("Docker", str(error))
    with opened:
        yield opened


@pytest.fixture(scope="session")
def built_engine(engine: Engine) -> Engine:
    """The same with images of ours: `engine.images` names each by its file in deploy/docker."""
    with ThreadPoolExecutor() as several:  # pip resolves, unpacks and compiles on one processor
        list(several.map(engine.build, BASES))
    return engine

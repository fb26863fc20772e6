"""The scripts of deploy/ci as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    """A script of deploy/ci as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / f"deploy/ci/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module

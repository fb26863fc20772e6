"""Request and response bodies, one module per area, with the examples that `/docs` shows."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from pydantic import BaseModel

__all__ = ["examples"]


def examples() -> dict[str, Any]:
    """The examples of every body, by the name of its class."""
    return {cls.__name__: extra["examples"] for cls, extra in _bodies() if "examples" in extra}


def _bodies() -> Iterator[tuple[type[BaseModel], dict[str, Any]]]:
    for found in iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseModel):
                extra = value.model_config.get("json_schema_extra")
                if isinstance(extra, dict):
                    yield value, extra

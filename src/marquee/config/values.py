"""What values of settings look like."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

__all__ = ["Names", "Url", "UrlOrPath", "reachable", "split"]


def split(value: object) -> object:
    """A list as people write it in one variable."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def reachable(host: str) -> str:
    """Where to reach what listens on an address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s;,'\"<>]+$")]
UrlOrPath = Annotated[str, Field(pattern=r"^(https?:/)?/[^\s;,'\"<>/][^\s;,'\"<>]*$")]
"""A path is of the host that names it."""

"""Secrets that Marquee makes for itself: one file each, readable by its owner alone."""

import os
import secrets
from pathlib import Path
from typing import Final, Literal

from marquee.errors import ConfigError

__all__ = ["read_secret"]

BYTES: Final = 32


def read_secret(folder: Path, name: Literal["cookies", "erasures"]) -> bytes:
    """
    A secret of at least 32 bytes, made on first use.

    All API processes and workers of one deployment must share the folder's files.

    Args:
        folder: `settings.paths.secrets`.
        name: `cookies` signs the visitors' cookies; `erasures` keys the hashes of erased users.

    Raises:
        ConfigError: the file is there and holds less.
    """
    path = folder / f"{name}.key"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        temporary.touch(mode=0o600)
        with temporary.open("wb") as file:
            file.write(secrets.token_hex(BYTES).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # whole or not at all; of racing processes one wins
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    content = path.read_bytes().strip()
    if len(content) < BYTES:
        raise ConfigError(
            f"The secret {path} has fewer than {BYTES} bytes.",
            fix="Delete the file and a new one is made, or write a longer one.",
        )
    return content

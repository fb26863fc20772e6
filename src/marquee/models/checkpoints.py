"""Checkpoints of a training: one file per step, whole or absent, the old ones pruned."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

__all__ = ["Checkpoints"]


class Checkpoints:
    """
    Where a training saves its progress.

    A checkpoint carries the fingerprint of its training (data and hyper-parameters): one of another
    training is never resumed.

    Args:
        directory: made when the first checkpoint is saved; used by one training at a time.
        keep: newest checkpoints that are kept, ≥ 1.
    """

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        self.directory = directory
        self.keep = keep

    def save(
        self, fingerprint: str, step: int, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]
    ) -> Path:
        """
        Keep the state after a step; it survives the loss of the process and of power.

        Args:
            fingerprint: hexadecimal name of the training.
            step: number of the step, rising.
            arrays: what is large.
            facts: what is JSON.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{fingerprint[:16]}-{step:08d}.safetensors"
        half = path.with_suffix(".tmp")
        with half.open("wb") as file:
            file.write(save(dict(arrays), metadata={"facts": json.dumps(facts)}))
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
        folder = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        kept = set(self._paths(fingerprint)[: self.keep])
        for other in [*self.directory.glob("*.safetensors"), *self.directory.glob("*.tmp")]:
            if other not in kept:
                other.unlink(missing_ok=True)
        return path

    def latest(self, fingerprint: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The arrays and facts of the newest readable checkpoint of a training; none: start anew."""
        for path in self._paths(fingerprint):
            try:
                with safe_open(path, framework="numpy") as file:
                    facts = json.loads(file.metadata()["facts"])
                    return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
            except (SafetensorError, OSError, ValueError, KeyError, TypeError):
                continue  # damaged on disk: the one before it costs an epoch, not the training
        return None

    def _paths(self, fingerprint: str) -> list[Path]:
        return sorted(self.directory.glob(f"{fingerprint[:16]}-*.safetensors"), reverse=True)

"""Learning curves: what a training reports as it goes on, kept short enough to travel with the bundle."""

import math
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["Curves"]

MOST_POINTS: Final = 400
"""Of each curve. Whenever there are more, every other one goes, so that those that stay are evenly apart."""


class Curves:
    """Collects the metrics of each step."""

    def __init__(self) -> None:
        self._step = 0
        self._points: dict[str, list[tuple[int, float]]] = {}
        self._apart: dict[str, int] = {}  # steps between the points that are kept

    def step(self, metrics: Mapping[str, float] | None) -> None:
        """One step is done; numbers that are not finite have no place on a curve."""
        for name, value in (metrics or {}).items():
            if self._step % self._apart.setdefault(name, 1) or not math.isfinite(value):
                continue
            points = self._points.setdefault(name, [])
            points.append((self._step, float(value)))
            if len(points) > MOST_POINTS:
                self._apart[name] *= 2
                self._points[name] = [point for point in points if not point[0] % self._apart[name]]
        self._step += 1

    def to_list(self) -> list[dict[str, Any]]:
        """JSON-able: for each metric `name`, `steps` (from 1) and `values`."""
        return [
            {
                "name": name,
                "steps": [step + 1 for step, _ in points],
                "values": [value for _, value in points],
            }
            for name, points in self._points.items()
        ]

"""The perceptron as a plain NumPy function, which is what every peer serves."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PlainMlp", "served"]

EPSILON = 1e-5
INPUTS = ("rating", "log_popularity", "watch_seconds")


class PlainMlp:
    """
    Top-10 films of an event.

    Args:
        folder: with `mlp.npz`, the state of a trained `marquee.models.mlp.Mlp` of three inputs and two hidden
            layers, and `cards.json`, what an answer shows of each film, in the order of its outputs.
    """

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "mlp.npz") as state:
            self._knots = [state[f"knots.{name}"] for name in INPUTS]
            left, running = state["parameters"], state["running"]
            n_films = len(state["item_ids"])
        self._levels = [np.linspace(-1.0, 1.0, len(knots)) for knots in self._knots]
        n_frequencies, width = 16, 256
        sizes: list[tuple[int, ...]] = [(len(INPUTS), n_frequencies)]
        for below in ((2 * n_frequencies + 1) * len(INPUTS), width):
            sizes += [(below, width), (width,), (width,)]
        parts = []
        for shape in [*sizes, (width, n_films), (n_films,)]:
            size = math.prod(shape)
            parts.append(left[:size].reshape(shape))
            left = left[size:]
        self._frequencies = parts[0]
        self._layers = []
        for layer in range(2):
            weights, scale, shift = parts[1 + 3 * layer : 4 + 3 * layer]
            mean, variance = running[2 * layer * width :][: 2 * width].reshape(2, width)
            slope = scale / np.sqrt(variance + EPSILON)
            self._layers.append((np.ascontiguousarray(weights * slope), shift - mean * slope))
        self._last = parts[-2:]
        self._cards: list[dict[str, Any]] = json.loads((folder / "cards.json").read_text())

    def recommend(self, rating: float, popularity: float, watch_seconds: float) -> list[dict[str, Any]]:
        """The cards of the ten most probable films, best first."""
        given = (rating, math.log1p(popularity), watch_seconds)
        values = np.array(
            [
                np.interp(x, knots, levels)
                for x, knots, levels in zip(given, self._knots, self._levels, strict=True)
            ],
            np.float32,
        )
        angles = (values[:, None] * self._frequencies).ravel()
        below = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(len(INPUTS), np.float32)])
        for weights, shift in self._layers:
            below = np.maximum(below @ weights + shift, 0.0)
        logits = below @ self._last[0] + self._last[1]
        best = np.argpartition(-logits, 10)[:10]
        return [self._cards[film] for film in best[np.argsort(-logits[best])].tolist()]


def served() -> PlainMlp:
    """That of the folder which the benchmark names."""
    return PlainMlp(Path(os.environ["SERVED_FOLDER"]))

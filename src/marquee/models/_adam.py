"""Adam in NumPy and BLAS (Kingma & Ba 2015)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Adam", "Floats", "axpy"]

Floats = NDArray[Any]  # float32; float64 where gradients are checked


class Adam:
    """
    Adam over one flat vector, in place.

    Few passes over memory: the moments are kept without the factors (1 - beta) and, within a cycle of
    steps, without their decay; instead each gradient weighs beta^-phase more than the one before. Both
    are made good in the step size. Blocks keep the vectors of a large network in the processor's cache.

    Args:
        parameters, gradient: (n,) the vectors to move and to follow.
        learning_rate: step size.
    """

    beta1 = 0.9
    beta2 = 0.999
    epsilon = 1e-8
    block = 262_144
    cycle = 64

    def __init__(self, parameters: Floats, gradient: Floats, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.steps = 0
        self.first: Floats = np.zeros_like(parameters)
        self.second: Floats = np.zeros_like(parameters)
        self._add_scaled = axpy(parameters)
        scratch = np.empty(min(self.block, len(parameters)), parameters.dtype)
        vectors = (parameters, gradient, self.first, self.second)
        self._blocks = [
            (*(vector[start : start + self.block] for vector in vectors), scratch[: len(parameters) - start])
            for start in range(0, len(parameters), self.block)
        ]

    def step(self) -> None:
        """Move the parameters once."""
        phase = self.steps % self.cycle
        self.steps += 1
        first_decay, second_decay = self.beta1**phase, self.beta2**phase
        first_factor = first_decay * (1 - self.beta1) / (1 - self.beta1**self.steps)
        second_factor = (second_decay * (1 - self.beta2) / (1 - self.beta2**self.steps)) ** 0.5
        step = self.learning_rate * first_factor / second_factor
        epsilon = self.epsilon / second_factor
        for parameters, gradient, first, second, scratch in self._blocks:
            if phase == 0:
                np.multiply(first, self.beta1**self.cycle, out=first)
                np.multiply(second, self.beta2**self.cycle, out=second)
            self._add_scaled(gradient, first, a=1 / first_decay)
            np.multiply(gradient, gradient, out=scratch)
            self._add_scaled(scratch, second, a=1 / second_decay)
            np.sqrt(second, out=scratch)
            np.add(scratch, epsilon, out=scratch)
            np.divide(first, scratch, out=scratch)
            self._add_scaled(scratch, parameters, a=-step)


def axpy(vector: Floats) -> Any:
    """BLAS's y ← a·x + y for vectors of this type."""
    from scipy.linalg import get_blas_funcs  # training only: answering starts sooner without it

    return get_blas_funcs("axpy", (vector,))

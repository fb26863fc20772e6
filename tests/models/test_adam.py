"""Adam: the steps of its paper, whatever its blocks."""

import numpy as np
import pytest

from marquee.models._adam import Adam


@pytest.mark.parametrize("block", [3, 10, 1000])
def test_adam_follows_its_paper(block, monkeypatch):
    """Kingma & Ba 2015, algorithm 1, whatever the blocks."""
    monkeypatch.setattr(Adam, "block", block)
    rng = np.random.default_rng(0)
    parameters, gradient = rng.normal(size=10), np.empty(10)
    expected, m, v = parameters.copy(), np.zeros(10), np.zeros(10)
    adam = Adam(parameters, gradient, 0.01)
    for t in range(1, 200):
        gradient[:] = rng.normal(size=10)
        adam.step()
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        expected -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(parameters, expected, rtol=1e-9)

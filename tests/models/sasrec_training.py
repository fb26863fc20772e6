"""
What needs PyTorch: `test_sasrec.py` runs this module in .venv-torch.

    .venv-torch/bin/python tests/models/sasrec_training.py    writes data/sasrec.safetensors anew
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from marquee.data import Histories, Interactions
from marquee.data.schema import Event
from marquee.models._sasrec_torch import Network
from marquee.models._sequences import padded, rating_classes
from marquee.models.base import Progress
from marquee.models.sasrec import Sasrec, SasrecConfig
from marquee.testing import RecommenderConformance, planted_tastes

EXPORTED = Path(__file__).parent / "data" / "sasrec.safetensors"
SMALL = SasrecConfig(
    length=12,
    width=16,
    blocks=2,
    heads=2,
    epochs=25,
    batch_sequences=8,
    learning_rate=0.01,
    dropout=0.1,
    horizon=5,
    weight_decay=0.01,
)


class TestSasrec(RecommenderConformance):
    """Small blocks for small data; products of other shapes round differently."""

    personal = True
    minimum_share = 0.6
    tolerance = 1e-4

    def make(self):
        torch.set_num_threads(1)
        return Sasrec(SMALL)


def test_fans_of_a_genre_get_it_by_a_sampled_softmax():
    """Fewer items in the softmax than there are teach much the same."""
    tastes = planted_tastes()
    config = SasrecConfig(**{**SMALL.to_dict(), "softmax_items": 20, "blocks": 1})
    ranked = Sasrec(config).fit(tastes.interactions).recommend(tastes.interactions.histories(), 5)
    genres = np.vectorize(tastes.genre_of_item.__getitem__)(ranked.item_ids)
    assert (genres == tastes.genre_of_user[:, None]).mean() > 0.6


def test_answers_equal_those_of_the_network_in_torch():
    """The NumPy forward is the trained network, to rounding."""
    model = Sasrec(SMALL).fit(planted_tastes().interactions)
    histories = planted_tastes().interactions.histories()
    np.testing.assert_allclose(model.score(histories), torch_scores(model, histories), atol=1e-4)


def test_default_sizes_equal_torch_with_random_weights():
    """Also for long histories, and with weights far from their start."""
    rng = np.random.default_rng(0)
    n = 600
    rows = Interactions.of(
        rng.integers(0, 4, n),
        rng.integers(0, 90, n),
        rng.integers(0, 10**15, n),
        ratings=rng.uniform(0, 10, n),
    )
    model = Sasrec(SasrecConfig(epochs=1, blocks=3, width=64, length=50)).fit(rows)
    shaken = {
        name: array + rng.normal(0, 0.1, array.shape).astype(np.float32)
        for name, array in model.state().arrays.items()
        if name.startswith("network.")
    }
    state = model.state()
    state.arrays.update(shaken)
    model = Sasrec.from_state(state)
    histories = rows.histories()
    np.testing.assert_allclose(model.score(histories), torch_scores(model, histories), rtol=1e-4, atol=1e-4)


def test_loss_falls_and_the_callers_random_numbers_stay():
    """Training learns, and draws from a generator of its own."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    losses = []

    class Recorder(Progress):
        def step(self, metrics=None):
            losses.append(metrics["loss"])

    Sasrec(SMALL).fit(planted_tastes().interactions, progress=Recorder())
    assert torch.equal(torch.rand(3), expected)
    assert losses[-1] < losses[0]


def test_another_seed_gives_another_network():
    """The seed reaches weights and batches."""
    rows = planted_tastes().interactions
    config = {**SMALL.to_dict(), "epochs": 1}
    first, second = (Sasrec(SasrecConfig(**{**config, "seed": seed})).fit(rows) for seed in (0, 1))
    assert not np.array_equal(first.state().arrays["network.items"], second.state().arrays["network.items"])


def test_users_of_one_event_can_be_learnt_from():
    """Nothing follows anything: popularity and finite answers are left."""
    rows = Interactions.of([1, 2, 3], [10, 10, 20], [1, 2, 3])
    model = Sasrec(SasrecConfig(epochs=1)).fit(rows)
    assert np.isfinite(model.score(rows.histories())).all()


def torch_scores(model: Sasrec, histories: Histories) -> np.ndarray:
    """Scores of full histories by the network itself."""
    network = Network(model.config, model.item_counts.astype(float))
    arrays = {
        k.removeprefix("network."): torch.from_numpy(v)
        for k, v in model.state().arrays.items()
        if k.startswith("network.")
    }
    network.load_state_dict({_torch_name(name): tensor for name, tensor in arrays.items()})
    network.eval()
    known = histories.where((model.items.index(histories.item_ids) >= 0) & (histories.events != Event.HIDE))
    known = known.last(model.config.length)
    sequences = padded(
        known.indptr[:-1],
        known.indptr[1:],
        model.items.index(known.item_ids),
        rating_classes(known.ratings),
        known.timestamps,
        known.as_of,
    )
    with torch.no_grad():
        summary = network(sequences)[:, -1]
        return (summary @ network.items.T + network.item_bias).numpy()


def _torch_name(name: str) -> str:
    return name.replace("block", "blocks.", 1) if name.startswith("block") else name


def export() -> None:
    """Write a small trained model with the scores that PyTorch gives."""
    torch.set_num_threads(1)
    histories = planted_tastes().interactions.histories()
    model = Sasrec(SMALL).fit(planted_tastes().interactions)
    EXPORTED.parent.mkdir(exist_ok=True)
    scores = torch_scores(model, histories)
    save_file(
        {**model.state().arrays, "expected_scores": scores},
        EXPORTED,
        {"config": json.dumps(model.state().meta["config"])},
    )


if __name__ == "__main__":
    export()

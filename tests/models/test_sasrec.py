"""An exported sequence model answers without PyTorch; trained, it passes the conformance suite."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from marquee.data import Histories, Interactions
from marquee.data.schema import Event
from marquee.errors import ModelError, NotFittedError
from marquee.models import ModelState, Sasrec
from marquee.models._sequences import GAPS, SasrecConfig, padded, rating_classes
from marquee.testing import planted_tastes

REPOSITORY = Path(__file__).parents[2]
TORCH_PYTHON = REPOSITORY / ".venv-torch" / "bin" / "python"
SECOND = 1_000_000


@pytest.fixture(scope="module")
def exported():
    """The arrays of a small trained model, its configuration and the scores that PyTorch gave."""
    with safe_open(Path(__file__).parent / "data" / "sasrec.safetensors", "np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    expected = arrays.pop("expected_scores")
    for array in arrays.values():
        array.flags.writeable = False
    return ModelState(arrays, {"config": config}), expected


@pytest.fixture(scope="module")
def model(exported):
    """The exported model."""
    return Sasrec.from_state(exported[0])


def test_exported_model_scores_as_it_did_in_torch(model, exported):
    """The NumPy forward equals PyTorch's to 1e-4."""
    scores = model.score(planted_tastes().interactions.histories())
    np.testing.assert_allclose(scores, exported[1], rtol=0, atol=1e-4)


def test_fans_of_a_genre_get_it(model):
    """What was learnt from planted tastes is still there after the export."""
    tastes = planted_tastes()
    ranked = model.recommend(tastes.interactions.histories(), 5)
    genres = np.vectorize(tastes.genre_of_item.__getitem__)(ranked.item_ids)
    assert (genres == tastes.genre_of_user[:, None]).mean() > 0.6


def test_history_alone_scores_as_in_a_batch(model):
    """Padding and neighbours of other lengths change nothing."""
    rows = planted_tastes().interactions
    histories = rows.take(np.random.default_rng(0).random(len(rows)) < 0.5).histories()
    assert len(set(histories.lengths.tolist())) > 3
    together = model.score(histories)
    for row in range(len(histories)):
        alone = model.score(histories.take(slice(row, row + 1)))[0]
        np.testing.assert_allclose(alone, together[row], atol=1e-4)


def test_only_the_newest_events_within_the_length_count(model):
    """Anything older than L events is forgotten."""
    items = model.items.ids[:30].tolist()
    newest = items[-model.config.length :]
    np.testing.assert_allclose(
        model.score(Histories.of_items(items)), model.score(Histories.of_items(newest)), atol=1e-5
    )


def test_order_of_events_matters(model):
    """Unlike a bag of items, a sequence reversed is another one."""
    items = model.items.ids[:6].tolist()
    there, back = model.score(Histories.of_items(items, items[::-1]))
    assert np.abs(there - back).max() > 1e-3


def test_history_without_a_known_event_gets_popularity(model):
    """Nothing, something unknown and a refusal are alike."""
    hidden = Interactions.of([1], model.items.ids[:1], [1], events=Event.HIDE).histories()
    rows = [model.score(history)[0] for history in (Histories.of_items([]), Histories.of_items([-5]), hidden)]
    for row in rows:
        np.testing.assert_array_equal(row, exported_popularity(model))


def exported_popularity(model):
    return model.state().arrays["popularity"]


def test_gaps_are_logarithmic_and_bounded():
    """Known answers: 0 s, 1 s, 3 s, a future event, and a lifetime."""
    times = np.array([0, 0, 0, 0]) + 10**9 * SECOND
    moments = times + np.array([0, 1, 3, 10**10]) * SECOND
    one = np.arange(4)
    sequences = padded(one, one + 1, one, one, times, moments)
    assert sequences.gaps()[:, 0, 0].tolist() == [0, 1, 2, GAPS - 1]
    assert padded(one[:1], one[:1] + 1, one, one, times, moments[:1] - SECOND).gaps().max() == 0


def test_runs_are_padded_on_the_left_and_look_back_only():
    """The newest event stands last, and no row sees what follows it or padding."""
    items, times = np.array([7, 8, 9, 4]), np.array([1, 2, 3, 9])
    sequences = padded(np.array([0, 3]), np.array([3, 4]), items, items, times, np.array([5, 10]))
    assert sequences.items.tolist() == [[7, 8, 9], [0, 0, 4]]
    assert sequences.moments[0].tolist() == [2, 3, 5]
    assert sequences.hidden()[0].tolist() == [[False, True, True], [False, False, True], [False] * 3]
    assert sequences.hidden()[1, 2].tolist() == [True, True, False]


def test_ratings_fall_into_fifths():
    """Without a rating there is a class of its own."""
    ratings = np.array([np.nan, 0, 2, 2.1, 10], np.float32)
    assert rating_classes(ratings).tolist() == [0, 1, 1, 2, 5]


@pytest.mark.parametrize("wrong", [{"heads": 3}, {"length": 0}, {"epochs": 0}])
def test_impossible_sizes_are_refused(wrong):
    """Before any data is read."""
    with pytest.raises(ValueError, match=r"must (divide|be at least 1)"):
        SasrecConfig(**wrong)


def test_state_of_another_model_is_refused():
    """A bundle of something else does not become a sequence model."""
    with pytest.raises(ModelError, match="weights"):
        Sasrec.from_state(ModelState({}, {"config": {}}))


def test_unfitted_model_says_so():
    """Nothing to answer with."""
    with pytest.raises(NotFittedError):
        Sasrec().score(Histories.of_items([1]))


def test_state_of_a_restored_model_is_the_same_state(model, exported):
    """A bundle of a loaded bundle is the same bundle."""
    assert model.state().meta == exported[0].meta
    assert model.state().arrays.keys() == exported[0].arrays.keys()
    assert replace(model.config) == model.config


def test_training_without_torch_says_what_to_install(monkeypatch):
    """A clear error instead of an import trace."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "marquee.models._sasrec_torch", raising=False)
    with pytest.raises(ModelError, match="pip install"):
        Sasrec().fit(planted_tastes().interactions)


def test_answering_imports_no_torch():
    """Serving starts without the training framework."""
    code = "import sys; from marquee.models import Sasrec; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_trained_model_passes_its_suite(not_run):
    """Training, conformance and equality with PyTorch, in the environment that has it."""
    python = TORCH_PYTHON
    if not python.exists():
        if importlib.util.find_spec("torch") is None:
            not_run("PyTorch", "which `make setup-torch` installs where pip reaches a CPU build")
        python = Path(sys.executable)
    suite = str(Path(__file__).with_name("sasrec_training.py"))
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(REPOSITORY / "pyproject.toml"),
    ]
    done = subprocess.run([*command, suite], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

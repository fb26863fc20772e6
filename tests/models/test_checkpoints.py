"""A checkpoint is whole or absent, belongs to one training, and old ones go."""

import numpy as np

from marquee.models.checkpoints import Checkpoints

NAME = "a" * 64


def save(checkpoints, step, name=NAME):
    return checkpoints.save(
        name, step, {"w": np.full(3, step, np.float32)}, {"step": step, "rng": {"s": 2**100}}
    )


def test_latest_is_what_was_saved_last(tmp_path):
    checkpoints = Checkpoints(tmp_path / "made" / "on demand")
    for step in (9, 10):
        save(checkpoints, step)
    arrays, facts = checkpoints.latest(NAME)
    np.testing.assert_array_equal(arrays["w"], np.full(3, 10, np.float32))
    assert facts == {"step": 10, "rng": {"s": 2**100}}


def test_nothing_saved_means_nothing_found(tmp_path):
    assert Checkpoints(tmp_path / "absent").latest(NAME) is None


def test_old_checkpoints_and_halves_are_pruned(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    (tmp_path / "left.tmp").write_bytes(b"half")
    paths = [save(checkpoints, step) for step in range(5)]
    assert sorted(tmp_path.iterdir()) == paths[-2:]


def test_another_training_is_never_resumed_and_gives_way(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 50)
    assert checkpoints.latest("b" * 64) is None
    kept = save(checkpoints, 1, "b" * 64)
    assert list(tmp_path.iterdir()) == [kept]


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    newest = save(checkpoints, 2)
    for damaged in (newest.read_bytes()[:-5], b"", b"\xff" * 64):
        newest.write_bytes(damaged)
        assert checkpoints.latest(NAME)[1]["step"] == 1

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from marquee.config import ObjectSettings
from marquee.models.checkpoints import Checkpoints
from marquee.pipelines import checkpoint_copies
from marquee.pipelines.checkpoint_copies import CheckpointCopies, sweep
from marquee.store.remote import RemoteStore

pytestmark = pytest.mark.integration

FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def remote(swift) -> RemoteStore:
    return RemoteStore(ObjectSettings(**swift.settings()))


def save(folder: Path, step: int) -> None:
    Checkpoints(folder).save(FINGERPRINT, step, {"weights": np.full(3, step, np.float32)}, {"step": step})


def test_training_of_a_lost_machine_is_continued_from_its_newest_copies(remote, tmp_path):
    run_id = uuid4()
    here = CheckpointCopies(remote, tmp_path / "here", run_id)
    for step in (1, 2):
        save(tmp_path / "here/search", step)
        here.copy()
    save(tmp_path / "here/final", 7)
    here.copy()
    here.copy()
    assert len(list(remote.list("checkpoints"))) == 2  # the newest of each part
    with CheckpointCopies(remote, tmp_path / "there", run_id) as there:
        for part, step in (("search", 2), ("final", 7)):
            arrays, facts = Checkpoints(tmp_path / "there" / part).latest(FINGERPRINT)
            assert facts == {"step": step}
            assert arrays["weights"].tolist() == [step] * 3
    there.forget()
    assert list(remote.list()) == []


def test_what_is_here_is_not_fetched_again(remote, tmp_path):
    run_id = uuid4()
    save(tmp_path / "here", 1)
    CheckpointCopies(remote, tmp_path / "here", run_id).copy()
    (tmp_path / "there").mkdir()
    with CheckpointCopies(remote, tmp_path / "there", run_id):
        assert list((tmp_path / "there").iterdir()) == []


def test_copies_are_made_while_the_training_goes_on(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_copies, "COPY_SECONDS", 0.01)
    with CheckpointCopies(remote, tmp_path / "here", uuid4()) as copies:
        save(tmp_path / "here", 1)
        for _ in range(3_000):
            if list(remote.list("checkpoints")):
                break
            copies._ended.wait(0.02)
    assert len(list(remote.list("checkpoints"))) == 1


def test_archive_that_is_away_does_not_stop_a_training(make_swift, tmp_path):
    swift = make_swift()
    away = RemoteStore(ObjectSettings(**swift.settings() | {"retries": 0}))
    swift.kill()
    with CheckpointCopies(away, tmp_path / "here", uuid4()) as copies:
        save(tmp_path / "here", 1)
        copies.copy()
        copies.forget()
    swift.start()


def test_sweep_takes_what_has_ended_and_leaves_what_goes_on_or_is_of_others(remote, tmp_path):
    failed, running = uuid4(), uuid4()
    for run_id in (failed, running):
        save(tmp_path / str(run_id) / "search", 1)
        CheckpointCopies(remote, tmp_path / str(run_id), run_id).copy()
    (tmp_path / "notes").mkdir()
    sweep(remote, tmp_path, lambda found: found & {failed})
    assert {path.name for path in tmp_path.iterdir()} == {str(running), "notes"}
    assert {found.key.split("/")[1] for found in remote.list()} == {str(running)}


def test_sweep_goes_without_an_archive_that_is_away(make_swift, tmp_path):
    swift = make_swift()
    away = RemoteStore(ObjectSettings(**swift.settings() | {"retries": 0}))
    swift.kill()
    failed = tmp_path / "all" / str(uuid4())
    save(failed, 1)
    sweep(away, failed.parent, lambda found: found)
    assert not failed.exists()


def test_without_an_archive_nothing_is_done(tmp_path):
    with CheckpointCopies(None, tmp_path / "here", uuid4()) as copies:
        copies.copy()
        copies.fetch()
        copies.forget()
    assert not (tmp_path / "here").exists()

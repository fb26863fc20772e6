from pathlib import Path

import pytest

from marquee.config import Settings
from marquee.pipelines.courier import Courier
from marquee.pipelines.run import run_here
from marquee.store.objects import ObjectStore
from marquee.store.repositories import outbox

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"),  # MLflow's
]


@pytest.fixture
def settings(swift, settings: Settings) -> Settings:
    tracker = f"sqlite:///{settings.home.parent}/mlflow.db"
    return Settings(
        home=settings.home,
        database=settings.database,
        objects=swift.settings(),
        mlflow={"tracking_uri": tracker},
    )


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    return ObjectStore.of(settings)


def waiting(database) -> list[str]:
    with database.begin() as connection:
        return [parcel.key for parcel in outbox.next_parcels(connection, 1000)]


def test_everything_that_pipelines_make_is_found_from_an_empty_home(settings, database, objects, tmp_path):
    for pipeline, parameters in (("prepare", {}), ("train", {"model": "popularity"}), ("infer", {})):
        run_here(settings, database, objects, pipeline, parameters)
    keys = waiting(database)
    assert set(keys) == {ref.key for ref in objects.list()}
    delivery = Courier(database, objects).deliver()
    assert (delivery.delivered, delivery.refused, waiting(database)) == (len(keys), (), [])
    elsewhere = ObjectStore(tmp_path / "elsewhere", objects.remote)
    assert all(elsewhere.get(key) == objects.get(key) for key in keys)

"""What commands are run on."""

import pytest

from marquee.config import Settings
from marquee.ingest.sample import ingest_sample
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database


@pytest.fixture
def home(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with a catalogue."""
    ingest_sample(database, ObjectStore.of(settings), limit=20)
    monkeypatch.setenv("MARQUEE_HOME", str(settings.home))
    monkeypatch.setenv("MARQUEE_DATABASE__URL", database.url)
    return settings

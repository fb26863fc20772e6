"""The first stage: its sources."""

from marquee.models import model_class
from marquee.recommend.first_stage import SOURCES


def test_every_source_is_a_model_with_these_settings() -> None:
    for name, (kind, settings) in SOURCES.items():
        assert model_class(kind).Config.from_dict(settings), name

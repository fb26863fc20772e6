"""Settings as programs use them."""

from pathlib import Path

from marquee.config import Settings


def test_copy_with_another_home_has_the_paths_of_that_home(tmp_path: Path) -> None:
    """Whoever drills or rehearses on a copy must not meet the home that is lived in."""
    settings = Settings(home=tmp_path / "one")
    assert settings.paths.postgres == tmp_path / "one/postgres"
    copy = settings.model_copy(update={"home": tmp_path / "two"})
    assert set(copy.paths.as_dict().values()).isdisjoint(settings.paths.as_dict().values())
    assert copy.paths.postgres == tmp_path / "two/postgres"

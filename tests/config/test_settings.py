"""Settings as programs use them."""

from pathlib import Path

import pytest

from marquee.config import Settings, load_settings
from marquee.errors import ConfigError


def test_copy_with_another_home_has_the_paths_of_that_home(tmp_path: Path) -> None:
    """Whoever drills or rehearses on a copy must not meet the home that is lived in."""
    settings = Settings(home=tmp_path / "one")
    assert settings.paths.postgres == tmp_path / "one/postgres"
    copy = settings.model_copy(update={"home": tmp_path / "two"})
    assert set(copy.paths.as_dict().values()).isdisjoint(settings.paths.as_dict().values())
    assert copy.paths.postgres == tmp_path / "two/postgres"


@pytest.mark.parametrize(("days", "fits"), [("0", True), ("7", False), ("8", True), ("-1", False)])
def test_answers_are_kept_for_ever_or_as_long_as_they_are_looked_at(
    days: str, fits: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the person who runs the tests
    monkeypatch.setenv("MARQUEE_RETENTION__ANSWERS_DAYS", days)
    if fits:
        assert load_settings().retention.answers_days == int(days)
    else:
        with pytest.raises(ConfigError, match="MARQUEE_RETENTION__ANSWERS_DAYS"):
            load_settings()

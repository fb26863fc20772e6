"""Models are found by name, by path and by entry point."""

from pathlib import Path

import pytest

import marquee.models
from marquee.models import Recommender, model_class, model_names


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers a model under a name of its own and under a built-in one."""
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", "utf-8")
    point = "marquee.models.popularity:Popularity"
    (info / "entry_points.txt").write_text(f"[marquee.models]\nmine = {point}\nease = {point}\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", model_names())
def test_each_known_name_is_that_of_its_class(name: str) -> None:
    found = model_class(name)
    assert issubclass(found, Recommender)
    assert found.name == name
    assert getattr(marquee.models, found.__name__) is found


def test_path_names_a_class() -> None:
    assert model_class("marquee.models.ease:Ease") is model_class("ease")


def test_entry_point_adds_a_name(installed: None) -> None:
    assert model_class("mine") is model_class("popularity")
    assert model_names()[-1] == "mine"


def test_entry_point_takes_no_built_in_name(installed: None) -> None:
    assert model_class("ease").__name__ == "Ease"
    assert model_names().count("ease") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("easy", "known: .*ease"),
        ("no_such_module:Model", "No module named"),
        ("marquee.models.ease:Easy", "Easy"),
        ("marquee.data:Catalog", "is not a Recommender"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model_class(name)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoModel"):
        _ = marquee.models.NoModel

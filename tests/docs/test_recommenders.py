"""docs/recommenders.md has a section for each model, and places for what is measured."""

import re
from pathlib import Path

import pytest

from marquee.models import model_class, model_names

PAGE = (Path(__file__).parents[2] / "docs" / "recommenders.md").read_text("utf-8")
BUILT_IN = [name for name in model_names() if model_class(name).__module__.startswith("marquee.")]


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_model_has_a_section_with_a_place_for_its_figure(name: str) -> None:
    section = re.search(
        rf"^### {name}\n\n<!-- place:{name} -->\n.*?<!-- /place -->\n(.*?)^##", PAGE, re.M | re.S
    )
    assert section, f"no section of {name}"
    assert len(section[1].split()) > 25


@pytest.mark.parametrize("name", ["rolling", "facts"])
def test_tables_have_rows(name: str) -> None:
    table = re.search(rf"<!-- table:{name} -->\n(.*?)<!-- /table -->", PAGE, re.DOTALL)
    assert table
    assert table[1].count("\n| `") >= 2

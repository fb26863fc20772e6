from pathlib import Path

import pytest

from marquee.cli.reference import generated_pages

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", generated_pages())
def test_generated_page_is_as_the_code_says(name: str) -> None:
    """`make docs` writes them."""
    assert (DOCS / name).read_text("utf-8") == generated_pages()[name]

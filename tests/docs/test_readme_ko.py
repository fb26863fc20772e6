"""The Korean README says what the English one says, as far as a program can tell."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
ENGLISH = (REPOSITORY / "README.md").read_text("utf-8")
KOREAN = (REPOSITORY / "README.ko.md").read_text("utf-8")


def shape(text: str) -> list[str]:
    """What stands where: headings by level, list items, rows of tables, pictures."""
    kinds = {"#": "heading", "-": "item", "|": "row", "!": "picture"}
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in prose.splitlines() if line]
    return [
        f"{kinds[line[0]]} {len(line) - len(line.lstrip('#'))}" if line[0] in kinds else "step"
        for line in lines
        if line[0] in kinds or re.match(r"\d+\. ", line)
    ]


def commands(text: str) -> list[str]:
    """The lines of the examples without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [re.sub(r"\s*# .*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def links(text: str) -> set[str]:
    """What is linked to or shown, but for the other language; a picture in Korean is that picture."""
    found = {target.replace("-ko.png", ".png") for target in re.findall(r"\]\(([^)]+)\)", text)}
    return found - {"README.md", "README.ko.md"}


def test_readmes_have_the_same_headings_steps_rows_and_pictures() -> None:
    assert shape(KOREAN) == shape(ENGLISH)


def test_readmes_show_the_same_commands() -> None:
    assert commands(KOREAN) == commands(ENGLISH)


def test_readmes_link_to_the_same_places_and_to_each_other() -> None:
    assert links(KOREAN) == links(ENGLISH)
    assert "(README.md)" in KOREAN
    assert "(README.ko.md)" in ENGLISH


def test_readmes_name_the_same_code() -> None:
    def named(text: str) -> set[str]:
        return set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))

    assert named(KOREAN) == named(ENGLISH)

"""Links of the documentation lead somewhere, and nothing in it is of one machine only."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
OF_ONE_MACHINE = re.compile(r"(?<![\w/.:~-])/(?:root|work|home|Users|tmp|opt(?!/marquee\b))/\w")
OF_HOSTS_OF_OURS = ("deploy/", "tests/deploy/", "tests/docker/", "src/marquee/store/majors.py")
"""What sets up hosts and containers, or looks through any, names paths of theirs."""
REGISTRY = re.compile(r"://[\w.-]*(pypi|pythonhosted|npmjs|debian)[\w.-]*|/simple/[a-z]")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = CODE_BLOCK.sub("", page.read_text("utf-8"))
    plain = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading.lower()) for heading in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def links() -> list[tuple[Path, str]]:
    return [
        (page, target)
        for page in PAGES
        for target in LINK.findall(CODE_BLOCK.sub("", page.read_text("utf-8")))
        if not re.match(r"\w+:", target)
    ]


@pytest.mark.parametrize(
    ("page", "target"), links(), ids=lambda value: value.name if isinstance(value, Path) else value
)
def test_relative_link_leads_to_a_file_and_an_anchor(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists()
    assert not anchor or anchor in anchors(file)


def test_every_page_of_docs_is_linked_from_another() -> None:
    linked = {(page.parent / target.partition("#")[0]).resolve() for page, target in links()}
    # A link to a folder is one to the pages in it.
    pages = {page for page in PAGES if page.is_relative_to(REPOSITORY / "docs")}
    assert {page for page in pages if not linked & {page, page.parent}} == set()


def test_every_picture_is_shown_on_a_page() -> None:
    shown = {(page.parent / target).resolve() for page, target in links()}
    assert set((REPOSITORY / "docs/images").iterdir()) - shown == set()


def test_no_tracked_text_names_a_path_of_one_machine_or_a_package_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    found = []
    for name in listed.stdout.splitlines():
        path = REPOSITORY / name
        if path.suffix in {
            ".py",
            ".md",
            ".toml",
            ".lock",
            ".in",
            ".yaml",
            ".yml",
            ".json",
            ".svg",
            ".sh",
            "",
        }:
            text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
            wrong = [REGISTRY] if name.startswith(OF_HOSTS_OF_OURS) else [OF_ONE_MACHINE, REGISTRY]
            found += [f"{name}: {m[0]}" for pattern in wrong for m in pattern.finditer(text)]
    assert found == []

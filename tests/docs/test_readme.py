"""Commands and examples that the documentation shows are ones that Marquee understands."""

import doctest
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import typer

import marquee
from marquee.cli import app

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]
SHELL = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"(?:^|\s)# .*$", re.MULTILINE)  # its apostrophes quote nothing
QUOTED = re.compile(r"'[^']*\n[^']*'")  # a body over several lines
INLINE = re.compile(r"`((?:\.venv/bin/)?marquee [^`…]+)`")
EXAMPLES = [page for page in PAGES if ">>>" in page.read_text("utf-8")]


def commands() -> list[tuple[str, ...]]:
    """The words after `marquee` of every command shown."""
    found = set()
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = [block.replace("\\\n", " ") for block in SHELL.findall(text)]
        lines = [line for block in blocks for line in QUOTED.sub("''", COMMENT.sub("", block)).splitlines()]
        for line in [*lines, *INLINE.findall(text)]:
            words = shlex.split(re.sub(r"[\[\]]", "", line), comments=True)  # [--option] in a synopsis
            while words and re.fullmatch(r"\w+=.*", words[0]):  # VARIABLE=value command
                words = words[1:]
            if words and Path(words[0]).name == "marquee":
                found.add(tuple(word for word in words[1:] if word != "--help"))
    return sorted(found)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_of_the_documentation_is_understood(words: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    rest = list(words)
    while True:
        # A command named in a sentence, without its arguments, must exist; one with words must parse.
        named_only = not any(word.startswith("-") for word in rest) and len(words) <= 2
        with command.make_context("marquee", rest, resilient_parsing=named_only) as context:
            group = getattr(command, "commands", None)
            rest = [*getattr(context, "_protected_args", []), *context.args]
        if group is None or not rest:
            break
        assert rest[0] in group, f"no such command: marquee {' '.join(words)}"
        command, rest = group[rest[0]], rest[1:]
    assert group is not None or not rest


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.name)
def test_examples_of_the_documentation_give_what_they_show(page: Path) -> None:
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried
    assert not failed


def test_examples_in_docstrings_give_what_they_show() -> None:
    sources = {
        ".".join(("marquee", *path.relative_to(Path(marquee.__file__).parent).with_suffix("").parts))
        for path in Path(marquee.__file__).parent.rglob("*.py")
        if ">>>" in path.read_text("utf-8")
    }
    results = [doctest.testmod(import_module(name.removesuffix(".__init__"))) for name in sorted(sources)]
    assert sum(result.attempted for result in results)
    assert not sum(result.failed for result in results)

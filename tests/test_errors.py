"""The error tree is as drawn, and every error says what to do next."""

import inspect
import re

import pytest

from marquee import errors
from marquee.errors import ConflictError, MarqueeError, StoreUnavailableError

classes = [getattr(errors, name) for name in errors.__all__]


def test_tree_drawn_in_the_docstring_is_the_tree():
    drawn, path = {}, []
    for line in inspect.getdoc(errors).splitlines():
        if match := re.match(r"^ {4}((?:[│ ]{3})*(?:[├└]─ )?)(\w+Error)\b", line):
            depth = len(match[1]) // 3
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
            path[depth:] = [match[2]]
    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in classes}


def test_every_class_is_exported():
    defined = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, MarqueeError)}
    assert defined == set(errors.__all__)
    assert errors.__all__ == sorted(errors.__all__)


@pytest.mark.parametrize("cls", [cls for cls in classes if not issubclass(cls, ConflictError)])
def test_message_is_followed_by_the_fix(cls):
    error = cls("No film 7.", fix="Run `marquee ingest sample`.")
    assert str(error) == "No film 7. Run `marquee ingest sample`."
    assert (error.message, error.fix) == ("No film 7.", "Run `marquee ingest sample`.")
    assert str(cls("No film 7.")) == "No film 7."


def test_conflict_names_the_run_under_way():
    error = ConflictError("train already runs.", run_id="r1", fix="Wait for it.")
    assert error.run_id == "r1"
    assert str(error) == "train already runs. Wait for it."


def test_caught_by_their_root():
    with pytest.raises(MarqueeError):
        raise StoreUnavailableError("PostgreSQL is away.")

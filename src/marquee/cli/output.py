"""What commands print: a short table for people, JSON for programs, one clear line for an error."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.errors import MarqueeError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "JsonOption",
    "bars",
    "brief",
    "console",
    "emit_json",
    "errors_as_lines",
    "fields_table",
    "rows_table",
    "summary",
]

PIPED_COLUMNS = 160
"""Width of tables that go to a file or a pipe, where no terminal says how wide it is."""
HIGHLIGHTS = {
    "prepare": ("items", "interactions", "simulated", "quarantined"),
    "simulate": ("users", "simulated"),
    "train": ("model", "rows", "epochs", "test_accuracy", "test_loss"),
    "promote": ("model", "verdict"),
    "infer": ("users", "k"),
    "pipeline": ("items", "interactions", "model", "verdict", "users"),
    "backup": ("rows", "bytes", "pruned"),
    "forget": ("rewritten", "deleted", "expired"),
    "monitor": ("events", "answers"),
}
"""What people see of a pipeline's counts; programs get all of them with --json."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def console(*, stderr: bool = False, minimum_width: int = 0) -> "Console":
    """
    A Rich console; tables go to standard output, progress to standard error.

    Args:
        minimum_width: of tables with many columns: a narrow terminal wraps their lines rather than the cells.
    """
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    piped = not made.is_terminal and "COLUMNS" not in os.environ
    made.width = max(made.width, minimum_width, PIPED_COLUMNS if piped else 0)
    return made


def emit_json(value: Any) -> None:
    """One JSON document on standard output."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    sys.stdout.write(orjson.dumps(value, default=str, option=options).decode() + "\n")


def rows_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table of rows, their cells as `brief` writes them."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(brief, row))
    console().print(table)


def fields_table(values: Mapping[str, object], *, title: str | None = None) -> None:
    """A table of names and values."""
    rows_table(("", ""), values.items(), title=title)


def brief(value: object) -> str:
    """A value as people read it: numbers rounded, digests cut short, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return re.sub(r"([0-9a-f]{8})[0-9a-f]{24,}", r"\1…", str(value))


def summary(pipeline: str, counts: Mapping[str, object]) -> str:
    """What a run of a pipeline made, in a few words."""
    names = [name for name in HIGHLIGHTS.get(pipeline, counts) if name in counts]
    return ", ".join(f"{name.replace('_', ' ')} {brief(counts[name])}" for name in names)


@contextmanager
def errors_as_lines(debug: bool) -> Iterator[None]:
    """
    Turn errors that people can act on into one line and exit code 1 (2 for a caller's mistake).

    Args:
        debug: let them pass with their traceback.
    """
    try:
        yield
    except (MarqueeError, OSError) as error:  # an OSError names the file or folder
        if debug:
            raise
        _say_error(str(error))
        raise SystemExit(1) from None
    except ValueError as error:
        if debug:
            raise
        _say_error(str(error))
        raise SystemExit(2) from None


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Any]:
    """
    Progress bars on standard error, one per step of a pipeline.

    Yields:
        `report(step, done, total)` as pipelines call it.
    """
    if quiet:
        yield lambda step, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
    ) as progress:
        tasks: dict[str, Any] = {}

        def finish_steps() -> None:
            for task in progress.tasks:  # a training that stops early is done, too
                progress.update(task.id, total=task.completed)

        def report(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                finish_steps()
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield report
        finish_steps()


def _say_error(message: str) -> None:
    typer.secho(f"Error: {' '.join(message.split())}", fg="red", err=True)

"""What commands print: a short table for people, JSON for programs, one clear line for an error."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.errors import MarqueeError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["JsonOption", "bars", "console", "emit_json", "errors_as_lines", "fields_table", "rows_table"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def console(*, stderr: bool = False, minimum_width: int = 0) -> "Console":
    """
    A Rich console; tables go to standard output, progress to standard error.

    Args:
        minimum_width: of tables with many columns: a narrow terminal wraps their lines rather than the cells.
    """
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if made.width < minimum_width:
        made.width = minimum_width
    return made


def emit_json(value: Any) -> None:
    """One JSON document on standard output."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    sys.stdout.write(orjson.dumps(value, default=str, option=options).decode() + "\n")


def rows_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table of rows; None is shown as a dash."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("–" if cell is None else str(cell) for cell in row))
    console().print(table)


def fields_table(values: Mapping[str, object], *, title: str | None = None) -> None:
    """A table of names and values."""
    rows_table(("", ""), values.items(), title=title)


@contextmanager
def errors_as_lines(debug: bool) -> Iterator[None]:
    """
    Turn errors that people can act on into one line and exit code 1 (2 for a caller's mistake).

    Args:
        debug: let them pass with their traceback.
    """
    try:
        yield
    except MarqueeError as error:
        if debug:
            raise
        _say_error(str(error))
        raise SystemExit(1) from None
    except OSError as error:  # a file or folder that was named: it says which
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

        def report(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield report


def _say_error(message: str) -> None:
    typer.secho(f"Error: {' '.join(message.split())}", fg="red", err=True)

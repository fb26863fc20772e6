"""
The command line: one verb per pipeline.

Heavy imports live inside the commands, so that `marquee --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from marquee.cli import (
    archiving,
    backups,
    comparing,
    data,
    experiments,
    features,
    keys,
    learning,
    monitoring,
    ops,
    releasing,
    servers,
    upgrading,
    upkeep,
)
from marquee.cli.output import errors_as_lines

__all__ = ["app", "main"]

app = typer.Typer(
    name="marquee",
    help="Movie recommendations from data to HTTP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from marquee import __version__

        typer.echo(f"marquee {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command; all settings are environment variables (docs/configuration.md)."""


for module in (
    servers,
    data,
    learning,
    comparing,
    releasing,
    experiments,
    keys,
    archiving,
    backups,
    monitoring,
    features,
    ops,
    upgrading,
    upkeep,
):
    module.register(app)


def main() -> None:
    """Run the command line; errors that people can act on are one line, unless `--debug` is given."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    # A model `module:Class` may lie in the working directory; behind all else, so that it shadows nothing.
    sys.path.append(str(Path.cwd()))
    with errors_as_lines(debug):
        app(standalone_mode=True)

"""The options of `edge-convert` that several commands have: which table, and what the model is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import click

from edge_agent.errors import InputError

_Command = TypeVar("_Command", bound=Callable[..., object] | click.Command)


class _Decorator(Protocol):
    def __call__(self, command: _Command, /) -> _Command: ...


FILE = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**32 - 1)  # edge_convert.estimators.SEEDS, which takes a second to import


def _options(*options: _Decorator) -> _Decorator:
    def apply(command: _Command, /) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


TABLE = _options(
    click.option(
        "--data",
        type=FILE,
        help="One table with features and labels (.csv, .tsv, .txt, .json, .ndjson, .parquet; also .gz).",
    ),
    click.option(
        "--target",
        multiple=True,
        help="With --data: the column that holds the labels, or numbers. Several: one model answers several numbers.",
    ),
    click.option("--features", type=FILE, help="A table of features, joined with --labels on the ids."),
    click.option("--labels", type=FILE, help="A table of labels."),
    click.option("--label-column", help="With --labels: the column that holds the labels."),
    click.option("--id-column", help="The column of ids.  [default: track_id with --features, none with --data]"),
    click.option("--columns", multiple=True, metavar="A,B,...", help="Feature columns.  [default: all others]"),
    click.option(
        "--drop", multiple=True, metavar="A,B,...", help="Columns to leave out; '' is the one without a name."
    ),
    click.option("--classes", multiple=True, metavar="A,B,...", help="Keep only the rows with these labels."),
    click.option(
        "--missing",
        type=click.Choice(["refuse", "drop", "native"]),
        default="refuse",
        show_default=True,
        help="Missing values: refuse the table, drop the rows that lack any, or learn from them as they are (native).",
    ),
    click.option("--sep", metavar="CHAR", help="What separates columns; tab, blank.  [default: found out]"),
    click.option("--decimal", default=".", show_default=True, help="The decimal separator: . or ,"),
    click.option("--encoding", help="That of text, such as cp1252.  [default: its byte order mark's, or utf-8]"),
)

IDENTITY = _options(
    click.option("--name", help="The model's name, a single word.  [default: from --out]"),
    click.option("--version", default="1.0.0", show_default=True, help="The model's version (SemVer)."),
    click.option("--describe", type=FILE, help="Feature sheet (TOML): units, bounds, examples, licence."),
    click.option("--unit", multiple=True, help="The unit of the numbers that are answered: one for each --target."),
    click.option("--date", help="The date in the model card, YYYY-MM-DD.  [default: SOURCE_DATE_EPOCH, or today]"),
    click.option("--seed", type=SEED, default=0, show_default=True, help="The seed of everything random."),
)


def require_place(path: Path | None, ending: str) -> None:
    """Complain before the work, not after it."""
    if path is None:
        return
    if path.suffix != ending:
        raise InputError(f"{path}: the name must end in {ending}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no directory {path.parent}")

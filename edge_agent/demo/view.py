"""The demo's output: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, Self

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge_agent.wording import plain


class Line(NamedTuple):
    """One answered message: with the cells of its `answer`, or with `error` and `reason`."""

    topic: str
    features: str
    answer: tuple[str, ...] = ()
    error: str = ""
    reason: str = ""


class View(Protocol):
    """Shows lines as they come."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *details: object) -> None:
        """End."""

    def show(self, line: Line) -> None:
        """Show one more line."""


class PlainView(AbstractContextManager["PlainView"]):
    """One line per message, for pipes and logs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        """Nothing to clean up."""

    def show(self, line: Line) -> None:
        """Print the line."""
        answer = " ".join(line.answer) if line.answer else f"{line.error}: {line.reason}"
        click.echo(plain(f"{line.topic:28} {line.features:55} -> {answer}"))


class TableView(AbstractContextManager["TableView"]):
    """A live table of the latest messages. `columns` are the columns of an answer."""

    def __init__(self, title: str, columns: Sequence[str], height: int = 16) -> None:
        self._title = title
        self._columns = columns
        self._lines: deque[Line] = deque(maxlen=height)
        self._live = Live(refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._live.update(self._table(), refresh=True)
        self._live.stop()

    def show(self, line: Line) -> None:
        """Put the line at the bottom."""
        self._lines.append(line)
        self._live.update(self._table())

    def _table(self) -> Table:
        table = Table(title=self._title, title_justify="left", expand=True)
        table.add_column("topic", no_wrap=True)
        table.add_column("features, or the error", no_wrap=True, ratio=1)
        first, *others = self._columns
        table.add_column(f"{first}, or error", no_wrap=True)
        for column in others:
            table.add_column(column, justify="right", no_wrap=True)
        for line in self._lines:
            if line.answer:
                first, *others = line.answer
                table.add_row(_text(line.topic), _text(line.features), _text(first, "green"), *map(_text, others))
            else:
                table.add_row(_text(line.topic), _text(line.reason, "yellow"), _text(line.error, "red"))
        return table


def _text(text: str, style: str = "") -> Text:
    """Return a cell: text from the wire must not be taken for markup or terminal controls."""
    return Text(plain(text), style)

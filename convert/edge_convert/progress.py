"""Progress for people, on standard error, so that standard output stays what it is: a bar on a terminal, else now and then a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Seconds from one line to the next where there is no terminal; what is done before the first has none.
_EVERY: Final = 10.0


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far it is while the block runs, and how long it will take; tell it `(done, total)`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(what, lambda line: click.echo(line, err=True))
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@dataclass
class Lines:
    """Says a line at most every ten seconds: `evaluating: 3 of 10 after 12 s, about 28 s left`."""

    what: str
    say: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _said: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._started = self._said = self.clock()

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` are done."""
        now = self.clock()
        if now - self._said < _EVERY or not 0 < done < total:
            return
        self._said, spent = now, now - self._started
        self.say(
            f"{self.what}: {done:,} of {total:,} after {spent:.0f} s, about {spent / done * (total - done):.0f} s left"
        )

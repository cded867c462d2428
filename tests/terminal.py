"""Someone at one terminal: a shell that stays, so that what a block leaves behind (directory, umask, variables) meets the next.

A block is typed whole, and every command of it has to end well, not the last one alone: on a terminal nothing ends at the
first failure, and what follows is done all the same, elsewhere or with other rights than the page thinks.

`Screen` is for one program that draws on its terminal.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.documents import Block
from tests.patience import DEADLINE

_FAILED: Final = "@failed@"
_ENDED: Final = "@ended@"
_SET_UP: Final = f"set -o pipefail -E; trap 'echo \"{_FAILED} $BASH_COMMAND ended with $?\"' ERR\n"


class Terminal:
    """`command` starts the shell; the other arguments are those of `subprocess.Popen`."""

    def __init__(self, command: Sequence[str | Path] = ("bash",), **options: Any) -> None:
        self._shell = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
        )
        self._type(_SET_UP)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the shell."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            self._shell.wait()
        self._shell.stdout.close()

    def run(self, block: Block, deadline: float = 1500.0) -> str:
        """Type a block, wait until it is done, and return what it printed; fails where it does not do what its page says."""
        said = self.type(block.text, deadline)
        failed = [line for line in said.splitlines() if _FAILED in line]
        assert not failed, (
            f"{block}: {failed[0].partition(_FAILED)[2].strip()}\n--- typed:\n{block.text}\n--- said:\n{said}"
        )
        for text in block.prints:
            assert text in said, f"{block} does not print {text!r}:\n{said}"
        return said

    def type(self, text: str, deadline: float = 1500.0) -> str:
        """Type a text, wait until it is done, and return what was printed."""
        # No command may read what is typed for the next one.
        self._type(f"eval {shlex.quote(text)} </dev/null\necho {_ENDED}\n")
        said = self._read_until(f"{_ENDED}\n", time.monotonic() + deadline)
        return said.removesuffix(f"{_ENDED}\n")

    def _type(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()

    def _read_until(self, end: str, ends: float) -> str:
        assert self._shell.stdout is not None
        out = self._shell.stdout.fileno()
        said = b""
        while not said.endswith(end.encode()):
            left = ends - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise TimeoutError(f"it is not done; it said:\n{said.decode(errors='replace')}")
            more = os.read(out, 1 << 16)
            if not more:
                raise EOFError(f"the shell has ended; it said:\n{said.decode(errors='replace')}")
            said += more
        return said.decode(errors="replace")


class Screen:
    """A program on a terminal of its own; `text` is what it has written, with all that moves the cursor."""

    def __init__(self, command: Sequence[str | Path], *, columns: int = 100, lines: int = 24) -> None:
        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        self.process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment)
        os.close(its)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def read_until(self, *parts: str) -> None:
        """Read until all of these were written."""
        ends = time.monotonic() + DEADLINE
        while not all(part in self.text for part in parts):
            if not select.select([self._ours], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise TimeoutError(f"not all of {parts} in {self.text!r}")
            if not self._read():
                raise EOFError(f"it has ended, and not all of {parts} are in {self.text!r}")

    def end(self) -> int:
        """Read until it has ended; return its status."""
        while self._read():
            pass
        return self.process.wait(DEADLINE)

    def _read(self) -> bool:
        try:
            more = os.read(self._ours, 65_536)
        except OSError:  # how Linux tells that the other end is closed
            return False
        self.text += more.decode(errors="replace")
        return bool(more)

"""Someone at one terminal: a shell that stays, so that what a block leaves behind (directory, umask, variables) meets the next.

A block is typed whole, and every command of it has to end well, not the last one alone: on a terminal nothing ends at the
first failure, and what follows is done all the same, elsewhere or with other rights than the page thinks.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.documents import Block

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

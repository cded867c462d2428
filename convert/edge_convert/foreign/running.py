"""A foreign file in onnxruntime, just as it is: the truth that the new file is compared with.

Light to import, for the process that tries a file (`edge_convert.trial`): no scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputError
from edge_convert.foreign.feeding import feed
from edge_convert.foreign.reading import Original, read
from edge_convert.sessions import open_any
from edge_convert.wording import first_line
from edge_convert.words import Words

#: How onnxruntime reports that memory ran out; std::bad_alloc is C++'s exception.
_NO_MEMORY: Final = ("bad_alloc", "Failed to allocate memory")


class Session:
    """An original, open. Asked from several threads at once."""

    def __init__(self, original: Original) -> None:
        self.original = original
        try:
            self._opened = open_any(original.content)
        except InputError as error:
            raise InputError(
                f"{original.path}: {error}; export it again with the standard operators and an older opset (skl2onnx: zipmap=False, where the dictionaries "
                "are the trouble)"
            ) from error

    def run(self, outputs: Sequence[str], rows: NDArray[np.float64], words: Mapping[int, Words]) -> list[Any]:
        """Return what the file says of `rows` (n, f) in each of `outputs`: an array (n, …), or a list of n dictionaries.

        Raises `InputError` where onnxruntime refuses the rows.
        """
        size = self.original.batch or self._opened.chunk
        parts = [self._some(outputs, rows[start : start + size], words) for start in range(0, len(rows), size)]
        return [_joined([part[place] for part in parts]) for place in range(len(outputs))]

    def _some(self, outputs: Sequence[str], rows: NDArray[np.float64], words: Mapping[int, Words]) -> list[Any]:
        # One row is asked for beside itself: a graph may squeeze away the only one of a dimension.
        n, least = len(rows), self.original.batch or 2
        if n < least:
            rows = np.concatenate([rows, np.repeat(rows[-1:], least - n, axis=0)])
        try:
            found = self._opened.session.run(list(outputs), feed(self.original.sources, rows, words))
        except Exception as error:  # onnxruntime raises a dozen kinds with no common base but Exception
            raise InputError(
                f"{self.original.path}: onnxruntime can't answer the rows with it ({first_line(error)[:300]}); are these its columns, in its order (--columns)?"
            ) from error
        for name, answers in zip(outputs, found, strict=True):
            if np.ndim(answers) == 0 or len(answers) != len(rows):
                raise InputError(
                    f"{self.original.path}: output {name!r} has {len(answers) if np.ndim(answers) else 1} answers for {len(rows)} rows; a model "
                    "answers each row by itself (--output names another one)"
                )
        return [answers[:n] for answers in found]


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], list):
        return [answer for part in parts for answer in part]
    return np.concatenate(parts)


def tried(path: Path, width: int | None) -> None:
    """Open a file in this process and ask it for one answer, as far as it is known how many columns it takes. Raises `InputError`."""
    original = read(path)
    session = Session(original)
    width = original.width if width is None else width
    if width is None:
        return
    depending = original.wiring.depending_on(source.name for source in original.sources)
    outputs = [one.name for one in original.graph.output if one.name in depending]
    try:
        session.run(outputs, np.zeros((1, width)), dict.fromkeys(range(width), Words("category", ("",))))
    except InputError as error:  # a row of zeros may well be none of its rows; the table has better ones
        if any(words in str(error) for words in _NO_MEMORY):
            raise InputError(
                f"{path}: takes more memory for one row than a model may; the file is damaged, or no model of rows"
            ) from error

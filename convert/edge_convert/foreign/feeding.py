"""Rows of features as the inputs of a foreign graph take them: as arrays, for the original, and as nodes, for the new one.

Both do the same to the bit: a number is rounded to float32 where an input is float32, what is behind the decimal point is dropped where it is whole, and the
code of a word becomes the word where it is text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_agent.errors import InputError
from edge_convert.foreign.reading import KINDS, Original, Source
from edge_convert.words import Words
from edge_convert.writer import Writer

if TYPE_CHECKING:
    from edge_convert.tables import Table  # takes a second to import, and no table is needed to try a file

_NARROW: Final = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
#: Whole numbers beyond these become what a processor makes of them.
_WHOLE: Final[dict[int, float]] = {TensorProto.INT64: float(1 << 53), TensorProto.INT32: float((1 << 31) - 1)}


def takes_float64(sources: Sequence[Source]) -> bool:
    """Return whether an input looks at more of a number than float32 holds."""
    return any(source.kind not in _NARROW for source in sources)


def places(sources: Sequence[Source], n_features: int) -> Iterator[tuple[Source, range]]:
    """Return each input with the columns that it takes."""
    start = 0
    for source in sources:
        width = n_features if source.width is None else source.width
        yield source, range(start, start + width)
        start += width


def require_fits(original: Original, table: Table) -> list[str]:
    """Return sentences about what becomes of the table's numbers. Raises `InputError` where an input can't take its column."""
    names, where, words = table.feature_names, table.sources[0].path, table.words
    notes = []
    for source, columns in places(original.sources, len(names)):
        for name in (names[place] for place in columns):
            kind, word = KINDS[source.kind], words.get(name)
            if source.kind == TensorProto.STRING and (word is None or word.kind != "category"):
                raise InputError(
                    f"{where}: column {name!r} holds {'booleans' if word else 'numbers'}, and input {source.name!r} of {original.path} takes text; "
                    "give the table the words that the model was trained on, or export the model with a number there"
                )
            if source.kind != TensorProto.STRING and word is not None and word.kind == "category":
                raise InputError(
                    f"{where}: column {name!r} holds words, and input {source.name!r} of {original.path} takes {kind}: how the model codes them is "
                    "not known; give the table the codes that it was trained on"
                )
            if source.kind not in {*_NARROW, TensorProto.DOUBLE} and np.isnan(table.X[:, names.index(name)]).any():
                raise InputError(
                    f"{where}: column {name!r} has missing values, and input {source.name!r} of {original.path} takes {kind}, which has none; "
                    "--missing drop leaves these rows out"
                )
        if source.kind in _WHOLE:
            named = ", ".join(repr(names[place]) for place in columns)
            notes.append(f"takes whole numbers in {named}: what is behind the decimal point is dropped")
    return notes


def feed(sources: Sequence[Source], rows: NDArray[np.float64], words: Mapping[int, Words]) -> dict[str, NDArray[Any]]:
    """Return `rows` (n, f) as the inputs of the original."""
    return {source.name: _array(source, columns, rows, words) for source, columns in places(sources, rows.shape[1])}


def _array(source: Source, columns: range, rows: NDArray[np.float64], words: Mapping[int, Words]) -> NDArray[Any]:
    chosen = rows[:, columns.start : columns.stop]
    found: NDArray[Any]
    if source.kind == TensorProto.STRING:
        texts = [np.array(words[place].categories, object)[rows[:, place].astype(np.int64)] for place in columns]
        found = np.column_stack(texts)
    elif source.kind in _WHOLE:
        most = _WHOLE[source.kind]
        found = np.clip(chosen, -most, most).astype(helper.tensor_dtype_to_np_dtype(source.kind))
    else:
        with np.errstate(over="ignore"):
            narrow = chosen.astype(np.float32) if source.kind in _NARROW else chosen
            found = narrow.astype(helper.tensor_dtype_to_np_dtype(source.kind))
    return found[:, 0] if source.rank == 1 else found


def write_feed(
    writer: Writer, sources: Sequence[Source], features: str, n_features: int, words: Mapping[int, Words]
) -> dict[str, str]:
    """Write what makes the original's inputs of the tensor `features`; return the names of the tensors that take their place."""
    wide = takes_float64(sources)
    found = {}
    for source, columns in places(sources, n_features):
        chosen = features
        if len(columns) < n_features:
            chosen = writer.add("Gather", features, writer.constant(list(columns), np.int64), axis=1)
        if source.kind == TensorProto.STRING:
            chosen = _write_words(writer, chosen, [words[place] for place in columns])
        elif source.kind in _WHOLE:
            most = _WHOLE[source.kind]
            chosen = writer.add("Max", chosen, writer.constant([-most], np.float64))
            chosen = writer.add("Min", chosen, writer.constant([most], np.float64))
            chosen = writer.add("Cast", chosen, to=source.kind)
        else:
            if source.kind == TensorProto.FLOAT16 and wide:
                chosen = writer.add("Cast", chosen, to=TensorProto.FLOAT)
            if source.kind != (TensorProto.DOUBLE if wide else TensorProto.FLOAT):
                chosen = writer.add("Cast", chosen, to=source.kind)
        if source.rank == 1:
            chosen = writer.add("Reshape", chosen, writer.constant([-1], np.int64))
        found[source.name] = chosen
    return found


def _write_words(writer: Writer, codes: str, words: Sequence[Words]) -> str:
    parts = []
    for place, word in enumerate(words):
        code = codes if len(words) == 1 else writer.add("Gather", codes, writer.constant([place], np.int64), axis=1)
        parts.append(
            writer.add("Gather", writer.texts(word.categories), writer.add("Cast", code, to=TensorProto.INT64), axis=0)
        )
    return parts[0] if len(parts) == 1 else writer.add("Concat", *parts, axis=1)

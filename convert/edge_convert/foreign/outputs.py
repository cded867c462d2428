"""Which outputs of a foreign file are asked for, and their answers as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto

from edge_agent.errors import InputError
from edge_convert.foreign.naming import Labels, column_of, constant, zip_map_of
from edge_convert.foreign.reading import KINDS, Original
from edge_convert.foreign.wiring import Wiring

_LABELS: Final = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.STRING})
_NUMBERS: Final = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16})


class Asked(NamedTuple):
    """The output of labels, and that of numbers: a tensor, or (`zipped`) dictionaries by label. None where there is none of the kind."""

    label: str | None
    numbers: str | None
    zipped: bool
    #: The labels of the model, where an output lists them.
    listed: Labels = ()
    #: The outputs that have one column each of `numbers`, in their order; none where that is an output itself.
    columns: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs to ask for."""
        return tuple(name for name in (self.label, *(self.columns or (self.numbers,))) if name is not None)

    @property
    def without_numbers(self) -> Asked:
        """The label alone."""
        return self._replace(numbers=None, zipped=False, columns=())


class Said(NamedTuple):
    """What a file says of n rows: `labels` (n,), whole numbers or texts, `numbers` (n, k) float32 or float64; None where it says nothing of the kind."""

    labels: NDArray[Any] | None
    numbers: NDArray[Any] | None


def asked_of(original: Original, chosen: Sequence[str]) -> Asked:
    """Return the outputs to ask for: those `chosen`, or the one of each kind. Raises `InputError` where that is not clear."""
    wiring, where = original.wiring, original.path
    there = {output.name: output for output in original.graph.output}
    if missing := [name for name in chosen if name not in there]:
        raise InputError(f"{where}: has no output {missing[0]!r}; it has {_all(original)}")
    depending = wiring.depending_on(source.name for source in original.sources)
    fixed = [name for name in there if name not in depending]
    found: dict[str, list[str]] = {"labels": [], "numbers": [], "": []}
    for name in chosen or [name for name in there if name not in fixed]:
        found[_kind(original, there[name])].append(name)
    labels, numbers = found["labels"], found["numbers"]
    if chosen and found[""]:
        raise InputError(f"{where}: output {found[''][0]!r} holds neither labels nor numbers; it has {_all(original)}")
    listed: Labels = next(filter(None, (constant(wiring, name) for name in fixed)), ())
    if len(labels) == 1 and len(numbers) > 1 and (whole := _side_by_side(wiring, numbers)) is not None:
        return Asked(labels[0], whole[0], zipped=False, listed=listed, columns=whole[1])
    if not chosen and len(labels) == 1 and len(numbers) > 1 and all(_is_column(there[name]) for name in numbers):
        raise InputError(
            f"{where}: has an output for each label's probability, and which is whose is not clear: {_all(original)}; export it with one output for all "
            f"(skl2onnx: zipmap=False), or leave the probabilities out with --output {labels[0]}"
        )
    if len(labels) > 1 or len(numbers) > 1:
        raise InputError(
            f"{where}: has several outputs, and which are to be answered is not clear: {_all(original)}; say so with --output NAME (one of labels, "
            "one of numbers, or both)"
        )
    if not labels and not numbers:
        raise InputError(f"{where}: has no output of labels or numbers; it has {_all(original)}")
    number = next(iter(numbers), None)
    zipped = number is not None and not there[number].type.HasField("tensor_type")
    return Asked(next(iter(labels), None), number, zipped, listed)


def said(original: Original, asked: Asked, answers: Sequence[Any], keys: Labels) -> Said:
    """Return the answers in the outputs `asked.names`; `keys` are the labels of dictionaries, in the order of their numbers."""
    by_name: Mapping[str, Any] = dict(zip(asked.names, answers, strict=True))
    labels = numbers = None
    if asked.label is not None:
        labels = np.asarray(by_name[asked.label])
        if labels.size != len(labels):
            raise InputError(
                f"{original.path}: output {asked.label!r} has several labels for a row ({' x '.join(map(str, labels.shape[1:]))}); a model answers one"
            )
        labels = labels.ravel()
    if asked.columns:
        numbers = np.column_stack([np.ravel(by_name[name]) for name in asked.columns])
    elif asked.numbers is not None:
        found = by_name[asked.numbers]
        if asked.zipped:
            found = np.array([[answer[key] for key in keys] for answer in found], np.float32)
        numbers = np.asarray(found)
        if numbers.ndim > 2:
            raise InputError(
                f"{original.path}: output {asked.numbers!r} has {numbers.ndim} dimensions; a model answers one number, or one for each label"
            )
        numbers = numbers.reshape(len(numbers), -1)
    return Said(labels, numbers)


def _kind(original: Original, output: ValueInfoProto) -> str:
    if not output.type.HasField("tensor_type"):
        return "numbers" if zip_map_of(original.wiring, output.name) is not None else ""
    kind = output.type.tensor_type.elem_type
    return "labels" if kind in _LABELS else "numbers" if kind in _NUMBERS else ""


def _side_by_side(wiring: Wiring, outputs: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Return of which tensor these outputs are the columns (zipmap="columns" of skl2onnx), and them in its order; None where the graph does not tell."""
    found = {column_of(wiring, name): name for name in outputs}
    tensor = next((column[0] for column in found if column is not None), "")
    places = [(tensor, place) for place in range(len(outputs))]
    return (tensor, tuple(found[place] for place in places)) if set(found) == set(places) else None


def _is_column(output: ValueInfoProto) -> bool:
    """Return whether an output has one number a row, as far as the file says."""
    shape = output.type.tensor_type.shape.dim
    return len(shape) == 1 or (len(shape) == 2 and shape[1].dim_value == 1)


def _all(original: Original) -> str:
    return ", ".join(f"{output.name!r} ({_described(output)})" for output in original.graph.output)


def _described(output: ValueInfoProto) -> str:
    if not output.type.HasField("tensor_type"):
        return "by label" if output.type.HasField("sequence_type") else str(output.type.WhichOneof("value"))
    tensor = output.type.tensor_type
    shape = " x ".join(str(dim.dim_value) if dim.dim_value else "n" for dim in tensor.shape.dim)
    return f"{KINDS.get(tensor.elem_type, 'another type')} {shape}".rstrip()

"""Reads ONNX files of strangers. Nothing is run here, and nothing but the file itself is opened.

Rules:

* whatever a device could not run, or not in bounded time, is refused before onnxruntime sees it: numbers in other files, operators that onnxruntime does
  not bring, loops without an end, random numbers;
* what Debian's onnxruntime (1.21) is too old for is lowered: the same nodes under an older opset where their definitions have not changed since,
  else by onnx's own converter;
* nothing is said of what the outputs mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    ValueInfoProto,
    defs,
    inliner,
    version_converter,
)

from edge_agent.contract import card
from edge_agent.errors import InputError
from edge_convert.foreign.wiring import Wiring
from edge_convert.wording import first_line, some
from edge_convert.writer import subgraphs

#: What onnxruntime 1.21 opens (it is of onnx 1.17), by domain; the least that the nodes around a graph need.
NEWEST: Final = {"": 22, "ai.onnx.ml": 5, "com.microsoft": 1}
_OLDEST: Final = 9
NEWEST_IR: Final = 10
#: What a graph without any standard operator is put under.
_PLAIN: Final = 17
_RANDOM: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)

#: What inputs may be, and how it is called.
KINDS: Final[dict[int, str]] = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "string",
}


@dataclass(frozen=True)
class Source:
    """One input: a tensor of `kind`, of `width` columns (None: as many as come), for `batch` rows (None: for any number), of `rank` 1 or 2."""

    name: str
    kind: int
    width: int | None
    batch: int | None
    rank: int


@dataclass(frozen=True)
class Original:
    """A file that may be opened: `content` as it is, `model` to build upon, and what it takes."""

    path: Path
    content: bytes
    model: ModelProto
    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()

    @property
    def graph(self) -> GraphProto:
        """The graph."""
        return self.model.graph

    @cached_property
    def wiring(self) -> Wiring:
        """What leads to what in it."""
        return Wiring(self.graph)

    @property
    def width(self) -> int | None:
        """How many columns it takes; None where it does not say."""
        widths = [source.width for source in self.sources]
        return None if None in widths else sum(width for width in widths if width is not None)

    @property
    def batch(self) -> int | None:
        """How many rows at once it takes; None for any number."""
        return next((source.batch for source in self.sources if source.batch is not None), None)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of its columns, where each has an input of its own."""
        columns = len(self.sources) > 1 and all(source.width == 1 for source in self.sources)
        return tuple(source.name for source in self.sources) if columns else ()

    @property
    def producer(self) -> str:
        """What wrote the file, and its version."""
        return " ".join(filter(None, (self.model.producer_name, self.model.producer_version))) or "of unknown origin"


def read(path: Path) -> Original:
    """Return a file that may be opened. Raises `InputError` with the way out."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    try:
        model = onnx.load_from_string(content)
    except (DecodeError, ValueError, TypeError):
        raise InputError(f"{path}: is not an ONNX file, or it is damaged") from None
    if not model.graph.node:
        raise InputError(f"{path}: is not an ONNX file, or it is empty")
    if any(entry.key == card.METADATA_KEY for entry in model.metadata_props):
        raise InputError(
            f"{path}: is a model file of edge-agent already, with a model card; serve it as it is, or export the file that it was made from"
        )
    try:
        _require_safe(model)
        model, notes = _lowered(model)
        return Original(path, content, model, tuple(_sources(model.graph)), notes)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def every_node(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Return nodes and, at any depth, the nodes of graphs inside of them."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from every_node(graph.node)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_in(node)


def _tensors_in(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            *attribute.sparse_tensors,
        ):
            yield from (sparse.values, sparse.indices)
    for graph in subgraphs(node):
        yield from _tensors(graph)


def _require_safe(model: ModelProto) -> None:
    inside = [tensor for function in model.functions for node in function.node for tensor in _tensors_in(node)]
    for tensor in (*_tensors(model.graph), *inside):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise InputError(
                f"keeps its numbers ({tensor.name or 'a constant'}) in another file; a model file is one file: where the other one is, "
                "onnx.save_model(onnx.load('model.onnx'), 'one.onnx', save_as_external_data=False); torch.onnx.export has external_data=False"
            )
    own = {(function.domain, function.name) for function in model.functions}
    bodies = [node for function in model.functions for node in function.node]
    nodes = list(every_node([*model.graph.node, *bodies]))
    unknown = {
        f"{node.op_type} ({node.domain})"
        for node in nodes
        if _domain(node) not in NEWEST and (node.domain, node.op_type) not in own
    }
    if unknown:
        raise InputError(
            f"has operators of its own, which onnxruntime on a device does not have: {some(sorted(unknown))}; export the model with the standard operators only"
        )
    looping = {node.op_type for node in nodes if node.op_type == "Loop"}
    if looping:
        raise InputError(
            "has a loop (Loop), which may take as long as it likes, and a device has to answer in time; export the model without one"
        )
    drawing = {node.op_type for node in nodes if node.op_type in _RANDOM}
    if drawing:
        raise InputError(
            f"draws random numbers ({some(sorted(drawing))}), so that a row has no one answer; export the model as it is for inference (model.eval())"
        )


def _lowered(model: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
    """Return the model without functions, under opsets that all supported versions of onnxruntime have, and sentences about that."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = _domain(entry)
        versions[domain] = max(entry.version, versions.get(domain, 0))
    used = {_domain(node) for node in every_node(model.graph.node)}
    if "" not in used:
        versions[""] = _PLAIN
    versions = {domain: versions.get(domain, 1) for domain in ("", *sorted(used - {""}))}
    notes = []
    for domain, version in versions.items():
        if domain == "" and version < _OLDEST:
            model, versions[""] = _converted(model, versions, _PLAIN), _PLAIN
            notes.append(f"its opset {version} was raised to {_PLAIN}")
        elif version > NEWEST[domain]:
            model, lowest = _under(model, versions, domain)
            versions[domain] = lowest
            notes.append(
                f"its {'opset' if not domain else f'opset of {domain}'} {version} was lowered to {lowest}, which onnxruntime 1.21 has"
            )
    if "com.microsoft" in used:
        names = {node.op_type for node in every_node(model.graph.node) if node.domain == "com.microsoft"}
        notes.append(
            f"uses operators that come with onnxruntime only ({some(sorted(names))}); check it on a device (edge-agent check)"
        )
    return _with_opsets(model, versions), tuple(notes)


def _domain(said: NodeProto | OperatorSetIdProto) -> str:
    """Return the domain of a node, or of an opset: that of the standard operators has two names."""
    return "" if said.domain == "ai.onnx" else said.domain


def _under(model: ModelProto, versions: dict[str, int], domain: str) -> tuple[ModelProto, int]:
    """Return the model under the newest opset of a domain that is supported. Raises `InputError` where that is not possible."""
    newest = NEWEST[domain]
    names = sorted({node.op_type for node in every_node(model.graph.node) if _domain(node) == domain})
    later = [name for name in names if _since(name, domain, versions[domain]) > newest]
    if not later:  # each means the same there
        return model, newest
    if domain:
        raise InputError(
            f"uses {some(later)} of {domain} {versions[domain]}; onnxruntime 1.21 has {newest}: export it with that one"
        )
    return _converted(model, versions, newest), newest


def _since(name: str, domain: str, version: int) -> int:
    """Return the opset from which on an operator is what it is in `version`."""
    try:
        return int(
            defs.get_schema(
                name, min(version, defs.onnx_opset_version() if not domain else version), domain
            ).since_version
        )
    except defs.SchemaError:
        return version


def _converted(model: ModelProto, versions: dict[str, int], target: int) -> ModelProto:
    try:
        return version_converter.convert_version(_with_opsets(model, versions), target)
    except Exception as error:  # the converter is C++ and raises RuntimeError, ValueError and its own
        raise InputError(
            f"is written for opset {versions['']}, and can't be converted to {target}, which onnxruntime 1.21 (Debian 13) has ({first_line(error)[:200]}); "
            f"export it again with opset {target} (torch.onnx.export(opset_version={target}), skl2onnx: target_opset={target})"
        ) from error


def _with_opsets(model: ModelProto, versions: dict[str, int]) -> ModelProto:
    other = ModelProto()
    other.CopyFrom(model)
    del other.opset_import[:]
    for domain, version in versions.items():
        other.opset_import.add(domain=domain, version=version)
    return other


def _sources(graph: GraphProto) -> Iterator[Source]:
    constants = {tensor.name for tensor in graph.initializer} | {
        sparse.values.name for sparse in graph.sparse_initializer
    }
    found = [_source(entry) for entry in graph.input if entry.name not in constants]
    if not found:
        raise InputError("takes nothing: it has no input")
    if len(found) > 1 and any(source.width is None for source in found):
        names = ", ".join(repr(source.name) for source in found if source.width is None)
        raise InputError(
            f"has several inputs, and does not say how many columns {names} takes; export it with the number"
        )
    if len({source.batch for source in found if source.batch is not None}) > 1:
        raise InputError("its inputs take different numbers of rows; a model answers each row by itself")
    return iter(found)


def _source(entry: ValueInfoProto) -> Source:
    tensor = entry.type.tensor_type
    if not entry.type.HasField("tensor_type"):
        raise InputError(
            f"input {entry.name!r} is {entry.type.WhichOneof('value') or 'without a type'}; rows of a table are tensors"
        )
    if tensor.elem_type not in KINDS:
        raise InputError(
            f"input {entry.name!r} takes {TensorProto.DataType.Name(tensor.elem_type).lower()}; a model takes {', '.join(KINDS.values())}"
        )
    if not tensor.HasField("shape"):
        return Source(entry.name, tensor.elem_type, None, None, 2)
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim]
    if len(dims) not in {1, 2}:
        shape = " x ".join("n" if dim is None else str(dim) for dim in dims) or "a single number"
        raise InputError(
            f"input {entry.name!r} has {len(dims)} dimensions ({shape}): rows of a table have two. Models of images, texts and sequences are not served"
        )
    if len(dims) == 1 and dims[0] is not None and dims[0] > 1:
        raise InputError(
            f"input {entry.name!r} is one row ({dims[0]}); export it for rows: (n, {dims[0]}), with the first dimension free (dynamic_axes)"
        )
    return Source(entry.name, tensor.elem_type, 1 if len(dims) == 1 else dims[1], dims[0], len(dims))

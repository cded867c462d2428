"""Reads payloads of Sparkplug B (Eclipse Sparkplug 3.0, 6.4) with protobuf, which is imported only here, and only when needed.

Rules:

* only what is looked for is described to protobuf: datasets, templates and properties stay bytes, so nothing is nested;
* a metric is looked at only if its name is wanted, or its alias stands for one that is (`Birth`);
* signed whole numbers are in unsigned fields, as two's complement of what the datatype says; data messages may leave that
  out, so births are asked for it. Without it a number that could be negative is none;
* null is None; what is no number, text or boolean is kept under its label, such as `{"dataset_value": true}`: not a number;
* a metric that is historical tells nothing of now, and is skipped.

What belongs to which edge node is the business of `edge_agent.routing.sparkplug`. A payload alone, as `decode` has it, is read
by the names in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from edge_agent.payload.format import Format
from edge_agent.payload.weights import MAX_WEIGHT

CONTENT_TYPE: Final = "application/vnd.sparkplug.b"

#: What one metric weighs. It takes some 400 bytes of memory, but also 1 to 2 us, so about 20,000 are the most that are read.
_METRIC: Final = 2048
#: Longest text that is taken as a value, in bytes.
_MAX_TEXT: Final = 1024
#: Bits of the signed whole numbers, by datatype: Int8 to Int64.
_SIGNED: Final = {1: 8, 2: 16, 3: 32, 4: 64}
#: Bits of the fields of whole numbers.
_WHOLE: Final = {"int_value": 32, "long_value": 64}
_AS_IT_IS: Final = frozenset({"float_value", "double_value", "boolean_value"})
_COMPRESSED: Final = b"SPBV1.0_COMPRESSED"
_BD_SEQ: Final = b"bdSeq"

#: name, number and type of the fields of a metric, those of one value last; types as in descriptor.proto.
_DOUBLE, _FLOAT, _UINT64, _BOOL, _MESSAGE, _BYTES, _UINT32 = 1, 2, 4, 8, 11, 12, 13
_FIELDS: Final = (
    ("name", 1, _BYTES),
    ("alias", 2, _UINT64),
    ("datatype", 4, _UINT32),
    ("is_historical", 5, _BOOL),
    ("is_null", 7, _BOOL),
)
_VALUES: Final = (
    ("int_value", 10, _UINT32),
    ("long_value", 11, _UINT64),
    ("float_value", 12, _FLOAT),
    ("double_value", 13, _DOUBLE),
    ("boolean_value", 14, _BOOL),
    ("string_value", 15, _BYTES),
    ("bytes_value", 16, _BYTES),
    ("dataset_value", 17, _BYTES),
    ("template_value", 18, _BYTES),
    ("extension_value", 19, _BYTES),
)


class Payload(NamedTuple):
    """What a payload has: protobuf's metrics, and the number among the messages of its edge node, from 0 to 255, if it has one."""

    metrics: Sequence[Any]
    seq: int | None


class Birth(NamedTuple):
    """What a birth message says of the wanted metrics: the names behind aliases, and datatypes by name."""

    aliases: Mapping[int, str]
    datatypes: Mapping[str, int]


def is_there() -> bool:
    """Tell whether protobuf is installed."""
    try:
        return find_spec("google.protobuf") is not None
    except ModuleNotFoundError:  # no package `google` at all
        return False


@lru_cache(maxsize=1)
def payload_type() -> Any:
    """Return protobuf's class of payloads, described here: there is no generated code."""
    described = import_module("google.protobuf.descriptor_pb2").FileDescriptorProto()
    described.name, described.package = "edge_agent/sparkplug_b.proto", "edge_agent.sparkplug"
    metric = described.message_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    for name, number, kind in _FIELDS:
        metric.field.add(name=name, number=number, type=kind, label=1)
    for name, number, kind in _VALUES:
        metric.field.add(name=name, number=number, type=kind, label=1, oneof_index=0)
    payload = described.message_type.add(name="Payload")
    payload.field.add(name="metrics", number=2, type=_MESSAGE, label=3, type_name=".edge_agent.sparkplug.Metric")
    payload.field.add(name="seq", number=3, type=_UINT64, label=1)
    payload.field.add(name="uuid", number=4, type=_BYTES, label=1)
    pool = import_module("google.protobuf.descriptor_pool").DescriptorPool()
    pool.Add(described) if hasattr(pool, "Add") else pool.AddSerializedFile(described.SerializeToString())
    found = pool.FindMessageTypeByName("edge_agent.sparkplug.Payload")
    factory = import_module("google.protobuf.message_factory")
    if hasattr(factory, "GetMessageClass"):
        return factory.GetMessageClass(found)
    return factory.MessageFactory(pool).GetPrototype(found)  # up to protobuf 4.21, which Debian 13 has


def read(payload: bytes) -> Payload:
    """Return what a payload has. Raises `ValueError` when it is malformed or compressed."""
    parse = payload_type().FromString
    try:
        found = parse(payload)
    except Exception as error:  # noqa: BLE001 - untrusted bytes: protobuf's exceptions differ by its implementation
        raise ValueError(f"Invalid Sparkplug B: {str(error)[:200]}") from None
    if found.uuid == _COMPRESSED:
        raise ValueError(
            "Invalid Sparkplug B: compressed payloads are not supported; turn compression off in the edge node"
        )
    return Payload(found.metrics, found.seq if found.HasField("seq") else None)


def birth(found: Iterable[Any], wanted: Mapping[bytes, str]) -> Birth:
    """Return what the metrics of a birth message say of those in `wanted`: names by their UTF-8."""
    aliases: dict[str, int] = {}
    datatypes: dict[str, int] = {}
    for metric in found:
        name = wanted.get(metric.name)
        if name is not None:
            datatypes[name] = metric.datatype
            if metric.HasField("alias"):
                aliases[name] = metric.alias  # one for each name, so that there are never more than are wanted
    return Birth({alias: name for name, alias in aliases.items()}, datatypes)


def row(found: Iterable[Any], wanted: Mapping[bytes, str], born: Birth | None) -> tuple[dict[str, Any], int | None]:
    """Return the values of the wanted metrics by name, and an alias that no birth message explains, if there is one."""
    values: dict[str, Any] = {}
    unexplained = None
    for metric in found:
        if metric.name:
            name = wanted.get(metric.name)
        elif not metric.HasField("alias"):
            name = None
        elif born is not None:
            name = born.aliases.get(metric.alias)
        else:
            name, unexplained = None, metric.alias
        if name is not None and not metric.is_historical:
            values[name] = _value(metric, metric.datatype or (born.datatypes.get(name, 0) if born else 0))
    return values, unexplained


def bd_seq(found: Iterable[Any]) -> int | None:
    """Return the number that a birth and a death of one session of an edge node share; None when it is not there."""
    for metric in found:
        if metric.name == _BD_SEQ:
            which = metric.WhichOneof("value")
            return int(getattr(metric, which)) if which in _WHOLE else None
    return None


def decode(payload: bytes, names: Sequence[str]) -> Any:
    """Return the values of the metrics in `names` that the payload calls by name. Raises `ValueError` as `read` does."""
    return row(read(payload).metrics, {name.encode(errors="replace"): name for name in names}, None)[0]


def weigh(payload: bytes, _names: Sequence[str]) -> int:
    """Estimate the bytes of memory that `read` would take, or return something above `MAX_WEIGHT`."""
    weight, place = len(payload), 0
    while place < len(payload) and weight <= MAX_WEIGHT:
        key, place = _varint(payload, place)
        weight += _METRIC
        if key & 7 == 2:
            length, place = _varint(payload, place)
            place += length
        elif key & 7 == 0:
            _, place = _varint(payload, place)
        else:
            place += {1: 8, 5: 4}.get(key & 7, 0)  # protobuf refuses the others
    return weight


def _value(metric: Any, datatype: int) -> Any:
    which = metric.WhichOneof("value")
    if metric.is_null or which is None:
        return None
    value = getattr(metric, which)
    if which in _AS_IT_IS:
        return value
    if which in _WHOLE:
        return _whole(value, datatype, _WHOLE[which])
    if which == "string_value" and len(value) <= _MAX_TEXT:
        return value.decode(errors="replace")
    return {which: True}


def _whole(value: int, datatype: int, width: int) -> Any:
    """Return a whole number from an unsigned field of `width` bits."""
    half = 1 << width - 1
    bits = _SIGNED.get(datatype)
    if bits is None:
        # Without a datatype nobody knows whether such a one is negative.
        return value if datatype or value < half else {"int_value": value, "datatype": None}
    if value < 1 << bits - 1:
        return value
    # Some encoders extend the sign to the whole field, others leave it at the bits of the type.
    for power in (bits, width):
        if (1 << power) - (1 << bits - 1) <= value < 1 << power:
            return value - (1 << power)
    return {"int_value": value, "datatype": f"Int{bits}"}


def _varint(payload: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(payload) and shift < 70:
        byte = payload[place]
        value |= (byte & 0x7F) << shift
        place += 1
        shift += 7
        if byte < 0x80:
            break
    return value, place


FORMAT: Final = Format(
    CONTENT_TYPE,
    "Sparkplug B",
    "a payload of Sparkplug B",
    decode,
    weigh,
    "sparkplug_invalid",
    needs="protobuf: apt install python3-protobuf, or pip install protobuf",
    is_there=is_there,
)

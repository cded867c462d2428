"""Decodes SenML packs (RFC 8428) to rows, and encodes answers as packs.

Rules of reading:

* records with the same resolved time are one row; rows are in the order in which their times first appear;
* a record is found by its own name (`n`, or the base name where it has none), by its whole name (base name and `n`),
  and by what follows the last `:` or `/` of the whole name;
* if several records of a row have one name, that name has the list of their values: not a number, so a feature with
  that name is rejected, and no value is chosen silently;
* a value that is neither a number in `v` nor a text in `vs` is kept under its label, such as `{"vb": true}`: not a number, either.

Times below 2**28, which RFC 8428 counts from now, stay as they are written: there is no clock here. Units and sums are
not looked at.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from edge_agent.contract.answers import Each
from edge_agent.contract.messages import Detail, shown, to_json
from edge_agent.payload import json_text
from edge_agent.payload.format import Format, Telling

CONTENT_TYPE: Final = "application/senml+json"

Record: TypeAlias = dict[str, Any]

#: Longest whole name. A base name counts for every record, so without a bound a pack could grow with its square.
MAX_NAME: Final = 256
#: RFC 8428, 4.4: what is newer must not be used. RFC 9100 makes larger numbers of features that are not known here.
_VERSION: Final = 10

_VALUES: Final = ("v", "vs", "vb", "vd")
_PLAIN: Final = frozenset({"n", "u", "v"})
_REGULAR: Final = frozenset({*_VALUES, "n", "u", "s", "t", "ut"})

#: RFC 8428, 4.5.1.
_LEGAL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]*")


def rows(content: Any, wanted: Sequence[str]) -> Any:
    """Return the row of a pack, or a list of rows when it has several times.

    `content` is the pack as JSON gives it. A row has the values of its records by name, the base name as `id` and a
    time other than zero as `time`, in seconds. Of a record's further names only those in `wanted` are kept. Raises
    `ValueError` when it is no pack.
    """
    if not isinstance(content, list):
        raise ValueError("Invalid SenML: a pack is an array of records")  # noqa: TRY004 - the payload is malformed
    further = frozenset(wanted)
    base = _Base()
    found: dict[float, _Row] = {}
    for number, record in enumerate(content, start=1):
        if _read_plain(record, base, found, further):
            continue
        try:
            _read(record, base, found, further)
        except ValueError as error:
            raise ValueError(f"Invalid SenML: record {number}: {error}") from None
    if not found:
        raise ValueError("Invalid SenML: no record has a value")
    finished = [_finish(time, row, further) for time, row in found.items()]
    return finished[0] if len(finished) == 1 else finished


@dataclass(slots=True)
class _Base:
    """The base fields in force: each holds from its record on, until another record has it (RFC 8428, 4.1)."""

    name: str = ""
    time: float = 0
    value: float | None = None
    has_sum: bool = False
    version: int | None = None

    def take(self, record: Record) -> None:
        version = record.get("bver", self.version or _VERSION)
        if not _is_number(version) or version not in range(1, _VERSION + 1):
            raise ValueError(f"bver must be an integer from 1 to {_VERSION}")
        if self.version not in {None, version}:
            raise ValueError("bver must be the same in all records")
        self.version = version
        self.name = _text(record, "bn", self.name)
        self.time = _number(record, "bt", self.time)
        if "bv" in record:
            self.value = _number(record, "bv", 0)
        self.has_sum = self.has_sum or "bs" in record


@dataclass(slots=True)
class _Row:
    """The records of one time. `base` is the base name of the first of them."""

    base: str
    values: dict[str, Any]

    def put(self, name: str, value: Any) -> None:
        if name not in self.values:
            self.values[name] = value
        elif isinstance(self.values[name], list):  # no value is a list itself
            self.values[name].append(value)
        else:
            self.values[name] = [self.values[name], value]


def _read_plain(record: Any, base: _Base, found: dict[float, _Row], wanted: frozenset[str]) -> bool:
    """Put a record into the row of the base time that has nothing but a name, a number and a unit, as nearly all have;
    return whether it did. Whatever is special about it is left to `_read`.
    """
    if type(record) is not dict or not record.keys() <= _PLAIN or base.value or base.version is None:
        return False
    own, value, row = record.get("n"), record.get("v"), found.get(base.time)
    if row is None or type(own) is not str or not own or (type(value) is not float and type(value) is not int):
        return False
    whole = base.name + own
    if len(whole) > MAX_NAME:
        return False
    row.put(own, value)
    if whole is not own and whole != own and whole in wanted:
        row.put(whole, value)
    last = whole[max(whole.rfind(":"), whole.rfind("/")) + 1 :]
    if last not in {own, whole} and last in wanted:
        row.put(last, value)
    return True


def _read(record: Any, base: _Base, found: dict[float, _Row], wanted: frozenset[str]) -> None:
    """Put one record into its row, if it has a value."""
    _check_labels(record)
    base.take(record)
    if not _REGULAR & record.keys() and any(label.startswith("b") for label in record):
        return  # base fields only: RFC 8428, 12.2, keeps that letter for them
    own, *others = _names(record, base)
    label = _label(record, base)
    if label is None:
        return
    time = base.time + _number(record, "t", 0)
    if not _is_finite(time):
        raise ValueError("its time must be finite")
    value = _value(record, label, base)
    row = found.get(time)
    if row is None:
        row = found[time] = _Row(base.name, {})
    row.put(own, value)
    for name in others:
        if name in wanted:
            row.put(name, value)


def _check_labels(record: Any) -> None:
    if not isinstance(record, dict):
        raise ValueError("it must be an object")  # noqa: TRY004 - the payload is malformed
    for label in record:
        if label.endswith("_"):
            raise ValueError(f"the field {label[:60]!r} is not supported, but must be understood (RFC 8428, 4.4)")


def _names(record: Record, base: _Base) -> list[str]:
    """Return the names of a record, each once, its own first."""
    own = _text(record, "n", "")
    if len(base.name) + len(own) > MAX_NAME:
        raise ValueError(f"its name has more than {MAX_NAME} characters")
    whole = base.name + own
    if not whole:
        raise ValueError("it has no name")
    last = whole[max(whole.rfind(":"), whole.rfind("/")) + 1 :]
    return list(dict.fromkeys((own or whole, whole, last)))


def _label(record: Record, base: _Base) -> str | None:
    """Return the label of the record's value; None when it has only a sum."""
    labels = [label for label in _VALUES if label in record]
    if len(labels) > 1:
        raise ValueError(f"it has several values: {', '.join(labels)}")
    if labels:
        return labels[0]
    if base.value is not None:
        return "v"  # RFC 8428, 4.5.4: zero is added to the base value
    if "s" in record or base.has_sum:
        return None
    raise ValueError("it has no value")


def _value(record: Record, label: str, base: _Base) -> Any:
    value = record.get(label, 0)
    if label == "v" and _is_number(value):
        return _number(record, "v", 0) + base.value if base.value else value
    if label == "vs" and isinstance(value, str):
        return value
    return {label: value}


def _finish(time: float, row: _Row, wanted: frozenset[str]) -> dict[str, Any]:
    """Return the values of a row with its base name and time, where no feature goes by `id` or `time` itself."""
    for name, value in (("id", row.base), ("time", time)):
        if value and name not in wanted:
            row.values[name] = value
    return row.values


def _text(record: Record, label: str, default: str) -> str:
    value = record.get(label, default)
    if not isinstance(value, str):
        raise ValueError(f"{label} must be text")  # noqa: TRY004 - the payload is malformed
    return value


def _number(record: Record, label: str, default: float) -> float:
    """Return a number that can be added to others: JSON's whole numbers have no bound, and no float takes them all."""
    value: float = record.get(label, default)
    if not _is_number(value):
        raise ValueError(f"{label} must be a number")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return math.inf if value > 0 else -math.inf
    return value


class _Came:
    """What came of one row: its records, and the numbers of those to which a base value was added, by name, with that."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.numbers: dict[str, tuple[float, float]] = {}

    def tell(self, detail: Sequence[Detail]) -> list[Detail]:
        """Return reasons with what came in `input`: the records, where none was found, or the number without its base."""
        told: list[Detail] = []
        records = shown(self.records)
        for one in detail:
            name = str(one["loc"][0]) if one["loc"] else None
            if one["type"] == "missing":
                told.append({**one, "input": records})
                continue
            number, base = self.numbers.get(str(name), (math.nan, 0.0))
            # With `fields` a record may bear the name of another feature: then the sum is another one.
            if _is_number(one["input"]) and number + base == one["input"]:
                words = f"{one['msg']}; it is {one['input']} with its base value"
                told.append({**one, "msg": words, "input": shown(number)})
            else:
                told.append(one)
        return told


def telling(payload: bytes) -> list[Telling]:
    """Return for each row of a pack that `rows` took, in the same order, what tells its reasons as it came."""
    base, found = _Base(), dict[float, _Came]()
    for record in json_text.decode(payload, ()):
        base.take(record)
        if not _REGULAR & record.keys() and any(label.startswith("b") for label in record):
            continue
        label = _label(record, base)
        if label is None:
            continue
        row = found.setdefault(base.time + _number(record, "t", 0), _Came())
        row.records.append(record)
        if label == "v" and base.value and _is_number(record.get("v")):
            row.numbers.update(dict.fromkeys(_names(record, base), (record["v"], base.value)))
    return [row.tell for row in found.values()]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def pack(outcome: Any) -> list[Record]:
    """Return the answer, or the list of answers, as one pack.

    Each answer is a run of records that begins with its `label` or `error`. `id` is the base name, where it can be
    one, and `time` the time, where it is a number; otherwise they are records like the rest.
    """
    packer = _Packer()
    return [record for row in (outcome if isinstance(outcome, list) else [outcome]) for record in packer.records(row)]


def row_encoder() -> Callable[[Mapping[str, Any]], bytes]:
    """Return an encoder for the answers of one pack, one after the other, without the brackets around them."""
    packer = _Packer()
    return lambda row: to_json(packer.records(row))[1:-1]


class _Packer:
    """Makes records from answers. A base field applies until the next one, so an answer without one must reset it."""

    def __init__(self) -> None:
        self._name, self._time = "", 0.0

    def records(self, row: Mapping[str, Any]) -> list[Record]:
        """Return the records of the next answer: at least one."""
        values = dict(row)
        first: Record = {}
        name, time = "", 0.0
        if _is_base_name(values.get("id")):
            name = _separated(values.pop("id"))
        if _is_finite(values.get("time")):
            time = values.pop("time")
        if name != self._name:
            first["bn"] = self._name = name
        if time != self._time:
            first["bt"] = self._time = time
        head, *rest = _records(values)
        return [{**first, **head}, *rest]


def _records(values: Mapping[str, Any]) -> Iterator[Record]:
    for key, value in values.items():
        if isinstance(value, Each):
            for name, number in value.items():
                yield _record(f"{value.one}/{escape(name)}", number)
        elif value is not None:
            yield _record(key, value)


def _record(name: str, value: Any) -> Record:
    """Return a record; a value that SenML can't represent becomes its JSON, as text."""
    if isinstance(value, bool):
        return {"n": name, "vb": value}
    if _is_finite(value):
        return {"n": name, "v": value}
    return {"n": name, "vs": value if isinstance(value, str) else to_json(value).decode()}


@lru_cache(maxsize=4096)  # labels of models, and names of what models give
def escape(label: str) -> str:
    """Return any text in the characters that a SenML name may have; another text gives another name.

    It is percent-encoding of UTF-8 (RFC 3986, 2.1) with `_` for `%`, which a name may not have.
    """
    return quote(label, safe="").replace("_", "%5F").replace("~", "%7E").replace("%", "_")


def _is_base_name(value: object) -> bool:
    return isinstance(value, str) and _LEGAL_NAME.fullmatch(value) is not None


def _separated(name: str) -> str:
    """Return a base name that ends in a separator, to separate it from the names that follow."""
    return f"{name}:" if name[-1].isalnum() else name


def _is_finite(value: Any) -> bool:
    return _is_number(value) and abs(value) <= sys.float_info.max


def _decode(payload: bytes, names: Sequence[str]) -> Any:
    return rows(json_text.decode(payload, names), names)


def _encode(outcome: Any) -> bytes:
    return to_json(pack(outcome))


FORMAT: Final = Format(
    CONTENT_TYPE,
    "SenML",
    "a SenML pack (RFC 8428)",
    _decode,
    json_text.weigh,
    "senml_invalid",
    _encode,
    CONTENT_TYPE,
    row_encoder=row_encoder,
    alike=False,
    telling=telling,
)

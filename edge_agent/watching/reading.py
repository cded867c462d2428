"""Reads answers and rejections for people, whatever is in them.

Pure. Nothing raises: what can't be read becomes a `Reading` that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from edge_agent.contract.messages import MAX_DETAILS, Message
from edge_agent.payload import formats
from edge_agent.payload.format import Format
from edge_agent.payload.weights import LIGHT, MAX_WEIGHT, HeavyError
from edge_agent.wording import mebibytes, quantity

#: Longest payload that is read, in bytes: an answer with a thousand labels has half of it.
MOST_BYTES: Final = 64 * 1024
#: Most characters of a text that is kept, and most names that are shown.
_TEXT: Final = 120
_NAMES: Final = 4


class Unread(NamedTuple):
    """A payload that can't be read, and why."""

    why: str


class Reading(NamedTuple):
    """What one answer says. `value` is its label or its numbers, `figure` the confidence or the score.

    `error` is the code of a rejection, `note` its reasons, or what else is to be known: what is outside, or uncertain.
    `sensor` is there when the answer names it.
    """

    value: str = ""
    figure: str = ""
    error: str = ""
    note: str = ""
    sensor: str = ""
    outside: bool = False
    uncertain: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether it is a prediction about which there is nothing to note."""
        return not (self.error or self.outside or self.uncertain)


def decoded(message: Message, limit: int = MOST_BYTES) -> Any:
    """Return what a payload of at most `limit` bytes holds, as plain values, or `Unread`."""
    size = len(message.payload)
    if size > limit:
        return Unread(f"{size} bytes" if size < 1 << 20 else mebibytes(size))
    answering = formats.find(message.content_type)
    if answering is None:
        return Unread(f"{size} bytes of {str(message.content_type)[:_TEXT]}")
    if answering.content_type not in _READ:
        answering = formats.JSON
    try:
        if size > LIGHT and answering.weigh is not None and answering.weigh(message.payload, ()) > MAX_WEIGHT:
            raise HeavyError  # noqa: TRY301 - as some decoders do
        return (
            formats.JSON.decode(message.payload, ()) if _is_json(answering) else answering.decode(message.payload, ())
        )
    except HeavyError:
        return Unread(f"{size} bytes, too large to read")
    except (ValueError, RecursionError):
        return Unread(f"{size} bytes that are no {answering.name}")


def _is_json(answering: Format) -> bool:
    # SenML too: as the records that came, because here nobody asks for the features of a model.
    return answering.content_type in {formats.JSON.content_type, "application/senml+json"}


_READ: Final = frozenset({formats.JSON.content_type, "application/senml+json", "application/cbor"})


def read(message: Message) -> Reading:
    """Read an answer or a rejection; of a batch, the last row."""
    found = decoded(message)
    if isinstance(found, Unread):
        return Reading(value="?", note=found.why)
    rows = rows_of(found)
    if not rows:
        return Reading(value="?", note=f"{len(message.payload)} bytes that are no answer")
    last = _row(rows[-1])
    if len(rows) == 1:
        return last
    rejected = sum("error" in row for row in rows)
    told = f"last of {len(rows)} rows" + (f", {rejected} of them rejected" if rejected else "")
    return last._replace(note=f"{told}; {last.note}" if last.note else told)


def rows_of(found: Any) -> list[Mapping[str, Any]]:
    """Return the rows of an answer: one, or those of a batch. A pack of SenML becomes rows as of JSON."""
    items = found if isinstance(found, list) else [found]
    rows: list[Mapping[str, Any]] = [item for item in items if isinstance(item, dict)]
    return _unpacked(rows) if rows and not any(_WHOLE & row.keys() for row in rows) else rows


#: What a row has one of, and what the first record of a row in SenML is called (docs/messages.md).
_WHOLE: Final = frozenset({"label", "value", "values", "error"})
_FIRST: Final = frozenset({"label", "uncertain", "value", "error"})


def _unpacked(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    rows: list[dict[str, Any]] = []
    for record in records:
        if not isinstance(name := record.get("n"), str):
            continue
        value = next((record[key] for key in ("v", "vs", "vb", "vd") if key in record), None)
        what, _, one = name.partition("/")
        begins = what in _FIRST and (
            not rows or name in rows[-1] or (what != "value" and bool(_WHOLE & rows[-1].keys()))
        )
        if begins:
            rows.append({})
        if not rows:
            continue
        if what == "value" and one:
            rows[-1].setdefault("values", {})[one] = value
        else:
            rows[-1][name] = value
    return list(rows)


def _row(row: Mapping[str, Any]) -> Reading:
    said = Reading(sensor=text(row["sensor"]) if "sensor" in row else "")
    if "error" in row:
        return said._replace(error=text(row["error"]), note=reasons(row.get("detail")))
    uncertain, outside = row.get("uncertain") is True, row.get("outside")
    notes = []
    if uncertain:
        notes.append(f"uncertain: {_likely(row)}" if _likely(row) else "uncertain")
    if isinstance(outside, list) and outside:
        notes.append(f"outside of training: {_names(outside)}")
    confidence, score = quantity(row.get("confidence")), row.get("score")
    figure = f"{confidence:.3f}" if confidence is not None else "" if score is None else number(score, 4)
    return said._replace(
        value=_value(row),
        figure=figure,
        note="; ".join(notes),
        outside=bool(outside),
        uncertain=uncertain,
    )


def _value(row: Mapping[str, Any]) -> str:
    if "label" in row:
        return "-" if row["label"] is None else text(row["label"])
    if "value" in row:
        return f"{number(row['value'])} {text(row['unit'])}" if row.get("unit") else number(row["value"])
    if isinstance(values := row.get("values"), dict):
        shown = [f"{text(name)} {number(value)}" for name, value in list(values.items())[:_NAMES]]
        return ", ".join(shown) + (f" and {len(values) - _NAMES} more" if len(values) > _NAMES else "")
    return "-" if row.get("uncertain") is True else "?"


def _likely(row: Mapping[str, Any]) -> str:
    """Return the label that is likeliest, where there is none for want of confidence."""
    probabilities = row.get("probabilities")
    numbers = (
        {name: one for name, given in probabilities.items() if (one := quantity(given)) is not None}
        if isinstance(probabilities, dict)
        else {}
    )
    return text(max(numbers, key=lambda name: numbers[name])) if numbers else ""


def reasons(detail: Any) -> str:
    """Return the reasons of a rejection in one text: the place and what is wrong there, with what came."""
    if not isinstance(detail, list):
        return text(detail) if isinstance(detail, str) else ""
    told = [_reason(one) for one in detail[:MAX_DETAILS] if isinstance(one, dict)]
    more = len(detail) - MAX_DETAILS
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _reason(one: Mapping[str, Any]) -> str:
    place = ".".join(map(text, one["loc"][:_NAMES])) if isinstance(one.get("loc"), list) else ""
    said = text(one.get("msg", ""))
    came = "" if one.get("input") is None or one.get("type") == "missing" else f" (was {text(one['input'])})"
    return f"{place}: {said}{came}" if place else f"{said}{came}"


def _names(names: Sequence[Any]) -> str:
    more = len(names) - _NAMES
    return ", ".join(map(text, names[:_NAMES])) + (f" and {more} more" if more > 0 else "")


def number(value: Any, digits: int = 6) -> str:
    """Return a number in few digits, anything else as text."""
    return f"{value:.{digits}g}" if isinstance(value, float) else text(value)


def text(value: Any, most: int = _TEXT) -> str:
    """Return any value as a text of so many characters at most. Not yet safe for a terminal."""
    said = value if isinstance(value, str) else _brief(value, most)
    return said if len(said) <= most else said[: most - 1] + "…"


def _brief(value: Any, most: int) -> str:
    # A number may have thousands of digits, for which Python refuses to write it.
    if isinstance(value, int) and not -(10**30) < value < 10**30:
        return "a very large number"
    return str(formats.JSON.encode(value)[: 4 * most], "utf-8", "ignore")

"""Encodes rejections; those of a batch's rows are assembled from cached pieces.

Rules:

* the result is byte for byte the encoding of `rejection`, with the echoed keys at its end;
* the shared part of the rows' rejections is encoded once; for each row only its input and its echoed keys;
* in a format whose rows depend on earlier ones (`alike` is not set), each row is encoded as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_agent.contract.messages import JSON_TYPE, Detail, ErrorCode, Rejection, shown_topic, to_json
from edge_agent.payload.checks import Brief, Said, in_full
from edge_agent.payload.features import Unusable
from edge_agent.payload.format import Format
from edge_agent.tally import Counts

#: Shared parts, and inputs, that stay encoded while one batch is written.
_KEPT: Final = 512
#: Words of reasons that a model's rejections keep encoded, some hundred bytes each, and reasons of which that pays.
_WORDS: Final = 4096
_MANY: Final = 4
#: Most echoed keys: `id`, `time` and `sensor`.
_MOST_ECHOED: Final = 3


def rejection(unusable: Unusable, topic: str | None, model: str, version: str | None) -> Rejection:
    """Return the rejection message without echoed keys."""
    return {
        "error": unusable.code,
        "detail": unusable.detail,
        "topic": None if topic is None else shown_topic(topic),
        "model": model,
        "version": version,
    }


class Wording:
    """Encodes the rejections of whole messages; keeps the words of their reasons encoded where encoding takes longer."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | int, ...], bytes] = {}

    def encode(self, message: Mapping[str, Any], answering: Format) -> bytes:
        """Return a rejection with its echoed keys as a separate answer."""
        detail: list[Detail] = message["detail"]
        if answering.encode is to_json or not answering.alike or len(detail) < _MANY:
            return answering.encode(message)
        encode, end = answering.row_encoder(), answering.end_object
        null = encode(None)
        pieces: list[bytes] = []
        value, sent = None, null
        for one in detail:
            words = (answering.answers, one["type"], one["msg"], *one["loc"])
            begin = self._known.get(words)
            if begin is None:
                begin = encode({**one, "input": None})[: -len(null + end)]
                if len(self._known) >= _WORDS:
                    self._known.clear()
                self._known[words] = begin
            if one["input"] is not value:  # several missing features show the same input
                value = one["input"]
                sent = encode(value)
            pieces.append(begin + sent + end)
        whole = encode({**message, "detail": None})
        place = len(encode({"error": message["error"], "detail": None})) - len(null + end)
        reasons = answering.begin(len(pieces)) + answering.between.join(pieces) + answering.end
        return whole[:place] + reasons + whole[place + len(null) :]


@dataclass(slots=True)
class _Pieces:
    """The bytes before and after a row's input; `begins` and `goes_on` by the number of echoed keys, which follow."""

    begins: list[bytes]
    ends: bytes
    goes_on: bytes
    rows: int = 0


class RejectionWriter:
    """Writes the rejections of one message's rows with its row encoder, and counts them."""

    def __init__(
        self, topic: str, model: str, version: str | None, answering: Format, encode: Callable[[Any], bytes]
    ) -> None:
        self._whose = topic, model, version
        self._format = answering
        self._encode = encode
        self._is_json = answering.answers == JSON_TYPE
        self._pieces: dict[Said, _Pieces] = {}
        self._inputs: dict[bytes, bytes] = {}
        self._reasons: Counter[tuple[ErrorCode, str]] = Counter()

    def write(self, rows: Iterable[Unusable | Brief], named: Mapping[str, Any]) -> list[bytes]:
        """Return the rejection of each row, with its echoed keys and the `named` sensor."""
        encode, alike = self._encode, self._format.alike
        written: list[bytes] = []
        for one in rows:
            if isinstance(one, Unusable) or not alike:
                written.append(self._whole(one if isinstance(one, Unusable) else in_full(one), named))
                continue
            said, value, text, echo = one
            if named:
                echo = {**echo, **named}
            pieces = self._pieces.get(said) or self._cut(said)
            pieces.rows += 1
            sent = encode(value) if text is None else text if self._is_json else self._input(value, text)
            if echo:
                written.append(pieces.begins[len(echo)] + sent + pieces.goes_on + encode(echo)[1:])
            else:
                written.append(pieces.begins[0] + sent + pieces.ends)
        return written

    def count(self, counts: Counts) -> None:
        """Count what was written."""
        self._sum_up()
        for (code, reason), count in self._reasons.items():
            counts.rejected(code, reason, count)

    def _whole(self, unusable: Unusable, named: Mapping[str, Any]) -> bytes:
        self._reasons[unusable.code, reason_of(unusable)] += 1
        return self._encode({**rejection(unusable, *self._whose), **unusable.echo, **named})

    def _input(self, value: Any, text: bytes) -> bytes:
        """Return an encoded input; `text`, its JSON, tells it from others."""
        found = self._inputs.get(text)
        if found is None:
            found = self._encode(value)
            if len(self._inputs) < _KEPT:
                self._inputs[text] = found
        return found

    def _cut(self, said: Said) -> _Pieces:
        """Return the pieces of the rejections that share `said`: the encoding before and after a null as their input."""
        chosen, encode = self._format, self._encode
        unusable = in_full((said, None, None, {}))
        whole = encode(rejection(unusable, *self._whose))
        null, ends = encode(None), chosen.end_object + chosen.end + chosen.end_object
        # Other numbers of members and reasons have the same length.
        place = len(encode({"error": unusable.code, "detail": unusable.detail[:1]})) - len(null + ends)
        members = len(Rejection.__annotations__) - _MOST_ECHOED
        begins = [chosen.begin_object(members + echoed) for echoed in range(_MOST_ECHOED + 1)]
        after = whole[place + len(null) :]
        if len(self._pieces) >= _KEPT:
            self._sum_up()
        pieces = self._pieces[said] = _Pieces(
            [begin + whole[len(begin) : place] for begin in begins],
            after,
            after[: len(after) - len(chosen.end_object)] + chosen.between,
        )
        return pieces

    def _sum_up(self) -> None:
        for said, pieces in self._pieces.items():
            self._reasons[ErrorCode.INVALID_FEATURES, _reason(ErrorCode.INVALID_FEATURES, said.first)] += pieces.rows
        self._pieces.clear()


def reason_of(unusable: Unusable) -> str:
    """Return the first reason in a few words, for the log: which feature and what is wrong with it."""
    return _reason(unusable.code, unusable.detail[0])


def _reason(code: ErrorCode, first: Detail) -> str:
    place = ".".join(str(part) for part in first["loc"])
    # "Field required at AM2301.Temperature": only the path is useful.
    path = first["msg"].removeprefix("Field required") if first["type"] == "missing" else ""
    return f"{code} ({place}: {first['type']}{path})" if place else str(code)

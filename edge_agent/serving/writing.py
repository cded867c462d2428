"""Writes answers in their format, within their size limit.

A batch is written piece by piece, so that its size is known before it is complete; equal rejections are made once, and
JSON is put together from pieces that are there already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from edge_agent.contract.answers import Explanation
from edge_agent.contract.messages import MAX_ANSWER_BYTES, Detail, ErrorCode, to_json
from edge_agent.payload.features import Batch, Brief, Features, Unusable
from edge_agent.payload.format import Format
from edge_agent.serving.rejecting import RejectionWriter
from edge_agent.tally import Counts

#: Rejections written in one step: a batch that becomes too large is abandoned after one step more.
_RUN: Final = 256
NOTHING: Final[Mapping[str, Any]] = {}
_FAILED: Final[list[Detail]] = [
    {"type": "inference_failed", "loc": [], "msg": "The model failed on this", "input": None}
]


#: A message to answer: its topic, its outcome, the format of the answer, what the route captured if the answer has to
#: name it, and what counts it. It is as bare as it is because there is one for each message: a tuple with names takes ten
#: times as long to make.
Asked: TypeAlias = tuple[str, Features | Unusable | Batch, Format, str | None, Counts]


class Written(NamedTuple):
    """An answer without its topic. `rejected` says that there is no prediction; in a batch, each row says it itself."""

    payload: bytes
    rejected: bool
    content_type: str


class Settled(NamedTuple):
    """A row's prediction, and its JSON, the format of nearly every answer."""

    #: Without echoed keys, and the JSON without its closing brace.
    bare: Mapping[str, object]
    begun: bytes
    #: Whether it has no label, for the model is not sure enough.
    uncertain: bool = False

    def json(self, echo: Mapping[str, Any]) -> bytes:
        """Return it as JSON, with the echoed keys."""
        return b"%b,%b" % (self.begun, to_json(echo)[1:]) if echo else self.begun + b"}"

    def write(self, echo: Mapping[str, Any], answering: Format) -> bytes:
        """Return it as a separate answer."""
        if answering.encode is to_json:
            return self.json(echo)
        return answering.encode({**self.bare, **echo} if echo else self.bare)


class Predictions(Protocol):
    """The predictions of rows, in order."""

    @property
    def failed(self) -> bool:
        """Whether the model failed on any of the taken ones."""

    @property
    def explains(self) -> Sequence[object]:
        """Empty where none of them is explained."""

    def take(self, count: int) -> Sequence[Settled | None]:
        """Return the next ones: up to `count`, at least one; None where the model failed."""

    def reasons(self, count: int) -> Sequence[Explanation | None]:
        """Return why the last `count` that were taken are as they are, None where they are not explained."""

    def skip(self, count: int) -> None:
        """Skip the next rows."""


class BatchWriter:
    """Writes the answer to one batch, piece by piece, and counts it if it is published.

    `doubting` says that there may be answers that are not sure.
    """

    def __init__(
        self,
        question: Asked,
        model: str,
        version: str | None,
        max_answer: int = MAX_ANSWER_BYTES,
        *,
        doubting: bool = False,
    ) -> None:
        self._doubting = doubting
        topic, _, self._answering, sensor, _ = question
        self._named = NOTHING if sensor is None else {"sensor": sensor}
        self._is_json = self._answering.encode is to_json
        self._encode = self._answering.row_encoder()
        self._rejections = RejectionWriter(topic, model, version, self._answering, self._encode)
        self._pieces: list[bytes] = []
        self._left = max_answer
        self._predictions = self._outside = self._uncertain = 0

    def write(self, batch: Batch, predicted: Predictions) -> bytes | None:
        """Return the answer, None when it would be too large. Consumes the predictions of the batch."""
        total = len(batch.values) + len(batch.rejected)
        begin, end = self._answering.begin(total), self._answering.end
        self._left -= len(begin) + len(end)
        taken = self._add_all(batch, total, predicted)
        predicted.skip(len(batch.values) - taken)
        if self._left < 0:
            return None
        return b"".join((begin, self._answering.between.join(self._pieces), end))

    def count(self, counts: Counts) -> None:
        """Count what was written."""
        counts.predictions += self._predictions
        counts.outside += self._outside
        counts.uncertain += self._uncertain
        self._rejections.count(counts)

    def _add_all(self, batch: Batch, total: int, predicted: Predictions) -> int:
        """Add the rows in order while there is room; return how many predictions were taken."""
        place = taken = 0
        for position, rejected in chain(_runs(batch.rejected), [(total, [])]):
            while place < position and self._left >= 0:
                made = predicted.take(position - place)
                plain = self._is_json and not self._named and not batch.outside and not predicted.failed
                if predicted.explains:
                    self._add(self._rows(batch, taken, made, predicted.reasons(len(made))))
                else:
                    self._add(self._plain(batch, taken, made) if plain else self._rows(batch, taken, made))
                taken += len(made)
                place += len(made)
            if self._left < 0:
                break
            if rejected:
                self._add(self._rejections.write(rejected, self._named))
                place += len(rejected)
        return taken

    def _add(self, rows: list[bytes]) -> None:
        joined = self._answering.between.join(rows)
        self._left -= len(joined) + len(self._answering.between)
        self._pieces.append(joined)

    def _plain(self, batch: Batch, first: int, found: Sequence[Settled | None]) -> list[bytes]:
        """Return the JSON of predicted rows, from the `first` usable one on; one piece may have several rows."""
        made = cast("Sequence[Settled]", found)
        self._predictions += len(made)
        if self._doubting:
            self._uncertain += sum(one.uncertain for one in made)
        if batch.ids is not None:
            return [_numbered([one.begun for one in made], batch.ids[first : first + len(made)])]
        if batch.echoes is None:
            return [one.begun + b"}" for one in made]
        return [one.json(echo) for one, echo in zip(made, batch.echoes_of(first, len(made)), strict=True)]

    def _rows(
        self,
        batch: Batch,
        first: int,
        found: Sequence[Settled | None],
        reasons: Sequence[Explanation | None] = (),
    ) -> list[bytes]:
        """Return rows, from the `first` usable one on, in any format."""
        echoes, outside = batch.echoes_of(first, len(found)), batch.outside
        if reasons:
            echoes = [
                echo if why is None else {"explanation": why, **echo} for echo, why in zip(echoes, reasons, strict=True)
            ]
        return [
            self._row(one, echo, outside.get(place, ()))
            for place, (one, echo) in enumerate(zip(found, echoes, strict=True), first)
        ]

    def _row(self, made: Settled | None, echo: Mapping[str, Any], outside: tuple[str, ...]) -> bytes:
        if made is None:
            return self._rejections.write([failed(echo)], self._named)[0]
        self._predictions += 1
        self._uncertain += made.uncertain
        if outside:
            self._outside += 1
            echo = {"outside": outside, **echo}
        return self._piece(made, echo)

    def _piece(self, settled: Settled, echo: Mapping[str, Any]) -> bytes:
        if self._named:
            echo = {**echo, **self._named}
        if self._is_json:
            return settled.json(echo)
        return self._encode({**settled.bare, **echo} if echo else settled.bare)


def _numbered(begun: list[bytes], ids: list[int]) -> bytes:
    """Return the JSON of rows that all have an `id`, in one step: separate rows would be copied twice."""
    # Integers contain no comma, so all can be written at once.
    ends = b',"id":%b}' % to_json(ids)[1:-1].replace(b",", b'},\0,"id":')
    pieces = [b""] * (2 * len(begun))
    pieces[::2], pieces[1::2] = begun, ends.split(b"\0")
    return b"".join(pieces)


def _runs(rejected: Mapping[int, Unusable | Brief]) -> Iterator[tuple[int, list[Unusable | Brief]]]:
    """Yield runs of adjacent rejections with the position of the first; a run has a limited length."""
    run: list[Unusable | Brief] = []
    begin = 0
    for position, one in rejected.items():
        if position != begin + len(run) or len(run) == _RUN:
            if run:
                yield begin, run
            run, begin = [], position
        run.append(one)
    if run:
        yield begin, run


def failed(echo: Mapping[str, Any]) -> Unusable:
    """Return the rejection for a row on which the model failed."""
    return Unusable(ErrorCode.INFERENCE_FAILED, _FAILED, dict(echo))

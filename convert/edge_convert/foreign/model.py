"""A foreign ONNX file as the rest of `edge_convert` sees it: `Opened`, of which is known what it takes, and `Foreign`, a fitted estimator.

What a file's outputs mean is found out with the table (`meaning.py`), so `Opened.settled` stands between the two. Answers are those of the original in
onnxruntime; nothing is taken from the new graph.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from sklearn.base import BaseEstimator

from edge_agent.contract import card
from edge_agent.errors import InputError
from edge_convert.classifier import split
from edge_convert.fold import Folded
from edge_convert.foreign import naming
from edge_convert.foreign.case import Case, Hints, largest
from edge_convert.foreign.feeding import require_fits, takes_float64
from edge_convert.foreign.graph import graph_of
from edge_convert.foreign.meaning import Meaning, settle
from edge_convert.foreign.outputs import Asked, asked_of, said
from edge_convert.foreign.proof import names_agree, require_each_row_by_itself
from edge_convert.foreign.reading import Original, read
from edge_convert.foreign.running import Session
from edge_convert.foreign.scores import LABELS, NUMBERS, PROBABILITIES
from edge_convert.graph import LABEL
from edge_convert.graph import PROBABILITIES as PROBABILITIES_OUT
from edge_convert.sessions import runtime_version
from edge_convert.tables import Table, TableChoice
from edge_convert.tasks import Answers, Classification, Comparison, Regression
from edge_convert.trial import require_opens
from edge_convert.verify import GENERATED
from edge_convert.words import Words

#: What a device with another processor may be off by: float32 products are added up in another order there.
ON_DEVICE: Final = 1e-5
#: Where the original answers a few rows at a time, or where the last step is ours, and not the original's.
_ROUNDED: Final = 1e-6
#: Rows that are generated for one that answers a fixed number of rows at once, which takes long.
_FEW: Final = 100_000


@dataclass(frozen=True)
class ForeignLabels(Classification):
    """One of several labels, as an ONNX file says."""

    def ask(self, model: Any, rows: Any) -> Answers:
        """Return the original's labels and probabilities."""
        answers: Answers = split(model)[1].labels_of(rows)
        return answers

    def graph(self, folded: Folded) -> ModelProto:
        """Return the graph around the original's."""
        graph: ModelProto = split(folded.estimator)[1].graph()
        return graph


@dataclass(frozen=True)
class ForeignNumbers(Regression):
    """Numbers, as an ONNX file says."""

    def ask(self, model: Any, rows: Any) -> Answers:
        """Return the original's numbers."""
        answers: Answers = split(model)[1].numbers_of(rows)
        return answers

    def graph(self, folded: Folded) -> ModelProto:
        """Return the graph around the original's."""
        graph: ModelProto = split(folded.estimator)[1].graph()
        return graph


class Opened:
    """A file that is safe to open, before it is known what its answers mean."""

    def __init__(self, original: Original) -> None:
        self.original = original

    def read_table(self, choice: TableChoice) -> Table:
        """Return the table, with the columns that the file names, where it has an input for each."""
        names = self.original.column_names
        try:
            return replace(choice, columns=choice.columns or names).read()
        except InputError as error:
            if choice.columns or not any(f"no column {name!r}" in str(error) for name in names):
                raise
            raise InputError(
                f"{error}\n  {self.original.path} has an input of that name for each column; if the table calls them otherwise, give its names in the "
                f"order of the inputs ({', '.join(names)}): --columns"
            ) from error

    def settled(self, table: Table, hints: Hints = Hints()) -> Foreign:  # noqa: B008 - it never changes
        """Return the model that it is for this table. Raises `InputError` where it does not fit, or what it answers is not clear."""
        original, width = self.original, len(table.feature_names)
        if original.width is None:
            require_opens(original.path, width)
        elif original.width != width:
            names = f" ({', '.join(original.column_names)})" if original.column_names else ""
            raise InputError(
                f"{table.sources[0].path}: has {width} feature columns, and {original.path} takes {original.width}{names}; choose them with --columns, in "
                "its order"
            )
        notes = [*original.notes, *require_fits(original, table)]
        session, asked = Session(original), asked_of(original, hints.outputs)
        words = table.words_by_place
        answered = said(original, asked, session.run(asked.names, table.X, words), _keys(original, asked))
        meaning = settle(Case(original, asked, answered, table, hints))
        meaning = replace(meaning, notes=(*notes, *meaning.notes))
        step = 0.0 if answered.numbers is None else float(np.finfo(answered.numbers.dtype).eps)
        model = Foreign(original, session, meaning, width=width, words=words, step=step)
        if table.labels is not None and meaning.names and (meaning.assumed or hints.label_names):
            model.notes = (*model.notes, *names_agree(model, table))
        require_each_row_by_itself(model, table)
        return model


class Foreign(BaseEstimator):  # type: ignore[misc]
    """A fitted model of an ONNX file. `own_task`, `rounds`, `library` and `alone` are what `task_of`, `fold` and `Reference` look for."""

    #: Whether the self-test has its answers to rows that are asked by themselves.
    alone = True

    def __init__(
        self,
        original: Original,
        session: Session,
        meaning: Meaning,
        *,
        width: int,
        words: Mapping[int, Words],
        step: float,
    ) -> None:
        self.original, self.meaning = original, meaning
        #: How fine its numbers are: the share of a number that one step of their type is.
        self.step = step
        self.n_features_in_ = width
        self.title = f"ONNX file ({original.producer})"
        self.library = ("onnxruntime", runtime_version())
        self.notes = meaning.notes
        #: Whether rows are rounded to float32 by the file itself.
        self.rounds = not takes_float64(original.sources)
        self._session, self._words, self._keys = session, words, _keys(original, meaning.asked)
        if meaning.how != NUMBERS:
            self.classes_ = np.array(meaning.names)

    def fit(self, _X: Any, _y: Any = None) -> Foreign:
        """Return itself: it is fitted already."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __deepcopy__(self, _memo: Any) -> Foreign:
        return self  # nobody changes it, and a session can't be copied

    @property
    def generated(self) -> int:
        """How many rows to generate."""
        return GENERATED if self.original.batch is None else _FEW

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - theirs
        """Return what the file is, and what was said of it: enough to verify the new file with it."""
        opsets = {f"opset {entry.domain}".strip(): entry.version for entry in self.original.model.opset_import}
        return {
            "sha256": hashlib.sha256(self.original.content).hexdigest(),
            "outputs": joined(self.meaning.asked.names),
            "scores": self.meaning.how,
            **opsets,
        }

    def own_task(self, quantities: Sequence[card.Quantity] = ()) -> Any:
        """Return what it answers."""
        meaning, batch = self.meaning, self.original.batch
        if meaning.how == NUMBERS:
            found = tuple(quantities) or tuple(card.Quantity(name=f"output {n + 1}") for n in range(meaning.width))
            tolerance = 0.0 if batch is None else _ROUNDED
            return ForeignNumbers(
                found, Comparison("value", tolerance, relative=True, has_labels=False, device=ON_DEVICE)
            )
        ours = meaning.how != PROBABILITIES
        tolerance = _ROUNDED if batch is not None or (ours and meaning.how != LABELS) else 0.0
        outputs = (LABEL,) if meaning.how == LABELS else (LABEL, PROBABILITIES_OUT)
        return ForeignLabels(meaning.names, Comparison("probability", tolerance, device=ON_DEVICE), outputs)

    def graph(self) -> ModelProto:
        """Return the new graph."""
        return graph_of(self.original, self.meaning, self.n_features_in_, self._words)

    def _said(self, asked: Asked, rows: NDArray[np.float64]) -> Any:
        return said(self.original, asked, self._session.run(asked.names, rows, self._words), self._keys)

    def numbers_of(self, rows: NDArray[np.float64]) -> Answers:
        """Return the numbers (n, k) that the original answers."""
        numbers = self._said(self.meaning.asked, rows).numbers.astype(np.float64)
        return Answers(np.full(len(rows), ""), numbers)

    def labels_of(self, rows: NDArray[np.float64]) -> Answers:
        """Return the labels that the original answers, and its probabilities (n, k), (n, 0) if there are none."""
        meaning, names = self.meaning, np.array(self.meaning.names)
        answered = self._said(meaning.asked, rows)
        numbers = np.empty((len(rows), 0)) if answered.numbers is None else answered.numbers.astype(np.float64)
        if answered.labels is None:
            place = (
                largest(numbers)
                if meaning.width > 1
                else (numbers[:, 0] > (0.5 if meaning.how == PROBABILITIES else 0.0)).astype(np.int64)
            )
            labels = names[place]
        elif isinstance(meaning.classes[0], str):
            labels = answered.labels.astype(str)
        else:
            called = dict(zip(meaning.classes, meaning.names, strict=True))
            labels = np.array([called.get(number, str(number)) for number in answered.labels.tolist()])
        return Answers(labels, self._probabilities(numbers))

    def _probabilities(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities as the agent publishes them: float32, widened."""
        how = self.meaning.how
        if how == LABELS:
            return numbers[:, :0]
        narrow = numbers.astype(np.float32)
        if how == PROBABILITIES:
            return (np.c_[np.float32(1) - narrow, narrow] if self.meaning.width == 1 else narrow).astype(np.float64)
        logits = np.c_[0 * numbers, numbers] if self.meaning.width == 1 else numbers
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: NDArray[np.float64] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
        return found


def open_file(path: Path) -> Opened:
    """Return a foreign file. Raises `InputError` with the way out.

    It is read, and asked for one answer, in a process apart first: it may be an attack, or crash what reads it.
    """
    if not path.is_file():
        raise InputError(f"{path}: can't be read: no such file")
    require_opens(path)
    return Opened(read(path))


def hints_on(model_card: card.ModelCard) -> Hints:
    """Return what the card of a model file knows of the ONNX file that it was made from."""
    parameters = model_card.training.parameters
    outputs, scores = parameters.get("outputs"), parameters.get("scores")
    if not isinstance(outputs, str) or not isinstance(scores, str):
        return Hints(label_names=model_card.labels)
    return Hints(parted(outputs), scores, model_card.labels)


def joined(names: Sequence[str]) -> str:
    """Return the names of outputs as a text for the card: with commas between them, or as JSON where one has a comma itself."""
    plain = ", ".join(names)
    return plain if parted(plain) == tuple(names) else json.dumps(names)


def parted(names: str) -> tuple[str, ...]:
    """Return the names that `joined` has made a text of."""
    if names.startswith("["):
        with contextlib.suppress(ValueError):
            return tuple(map(str, json.loads(names)))
    return tuple(names.split(", "))


def _keys(original: Original, asked: Asked) -> naming.Labels:
    """Return the labels that answers by label have, in the order of their numbers."""
    return naming.labels_of_columns(original.wiring, asked.numbers) if asked.zipped and asked.numbers else ()

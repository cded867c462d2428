"""Which answers are explained, and how: as the route says (`explain`), or as a message asks for itself (its user property `explain`).

Rules:

* a model that can't explain answers as its route wants is refused when the agent starts (`edge_agent.assembly`); here it answers all the same;
* another way is made when it is first asked for;
* what a message asks for comes from outside: what can't be had is told in the answer, which is given all the same;
* of a batch, only so many rows are explained: what an explanation costs is bounded for each row (`edge_agent.model.explain`), and so it is
  for each message.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from edge_agent.contract.answers import Explain, Explanation
from edge_agent.errors import ExplainError
from edge_agent.model.explain import METHODS, Explainer
from edge_agent.payload.features import Batch, Features
from edge_agent.serving.writing import Asked

_log = logging.getLogger(__name__)

NONE: Final = "none"
_LONGEST: Final = 20


class Explains(Protocol):
    """What it takes of a model."""

    def explainer(self, method: str) -> Explainer:
        """Return what explains its answers. Raises `ExplainError`."""


class Unexplained:
    """Says why there is no explanation."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def explain(self, rows: Sequence[Sequence[float]], labels: Sequence[str | None]) -> list[Explanation]:  # noqa: ARG002
        """Return the reason for each of `rows`."""
        return [{"method": "none", "reason": self._reason} for _ in rows]


class Explaining:
    """Explains the answers of one engine."""

    def __init__(self, model: Explains, method: Explain, *, on_request: bool, most: int) -> None:
        self._model = model
        self._on_request = on_request
        self._most = most
        self._known: dict[str, Explainer | None] = {NONE: None}
        #: What explains an answer whose message asks for nothing.
        self.own = self._get(method)

    def by(self, wish: str | None) -> Explainer | None:
        """Return what explains an answer to a message that asks for `wish`; None where nothing does."""
        if not wish:
            return self.own
        if wish != NONE and wish not in METHODS:
            return Unexplained(f"explain: {wish[:_LONGEST]!a} is none of {', '.join(METHODS)}, {NONE}")
        if not self._on_request:
            return Unexplained("this route explains no answer on request (explain_requests)")
        return self._get(wish)

    def of_rows(self, questions: Sequence[Asked], wishes: Sequence[str | None]) -> list[Explainer | None]:
        """Return what explains the answer to each row of `questions`; there are as many `wishes`, or none."""
        found: list[Explainer | None] = []
        for (_, content, _, _, _), wish in zip(questions, wishes or [None] * len(questions), strict=True):
            if isinstance(content, Features):
                found.append(self.by(wish))
            elif isinstance(content, Batch):
                rows = len(content.values)
                found += [self.by(wish)] * min(rows, self._most) + [None] * (rows - self._most)
        return found

    def _get(self, method: str) -> Explainer | None:
        if method not in self._known:
            try:
                self._known[method] = self._model.explainer(method)
            except ExplainError as error:
                self._known[method] = Unexplained(str(error))
        return self._known[method]


def explained(
    rows: Sequence[Sequence[float]], answers: Sequence[Mapping[str, Any] | None], explainers: Sequence[Explainer | None]
) -> list[Explanation | None]:
    """Return why each of `rows` (n, features) got its answer, or None; an answer that is None was none."""
    found: list[Explanation | None] = [None] * len(rows)
    for one in {id(one): one for one in explainers if one is not None}.values():
        places = [place for place, other in enumerate(explainers) if other is one and answers[place] is not None]
        if not places:
            continue
        labels = [_label(answers[place] or {}) for place in places]
        try:
            for place, why in zip(places, one.explain([rows[place] for place in places], labels), strict=True):
                found[place] = why
        except Exception:  # noqa: BLE001 - the answers are there, and go without
            _log.exception("%d answers could not be explained", len(places))
    return found


def _label(answer: Mapping[str, Any]) -> str | None:
    """Return the label of an answer; of one that is not sure, the one that it would be."""
    label: str | None = answer.get("label")
    probabilities: Mapping[str, float] = answer.get("probabilities", {})
    return max(probabilities, key=probabilities.__getitem__) if label is None and probabilities else label

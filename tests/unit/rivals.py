"""Two versions of a model that differ where a test says so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import Message
from edge_agent.contract.templates import Template
from edge_agent.routing.routes import Route
from edge_agent.serving.contest import Contesting
from edge_agent.serving.evidence import ContestLimits
from edge_agent.serving.pipeline import Pipeline
from edge_agent.testing import FakeClock, FakeModel, make_card

ROUTE = Route("genre", Template("in/{s}/x"), Template("out/{s}"), Template("out/{s}/error"))
Row = Sequence[float]


class Rival(FakeModel):
    """Answers Rock for a row whose first feature is above `above`, else Hip-Hop. Fails on rows that `raises` is true of, gives NaN where
    `is_nan` is, and takes `seconds` of a clock for each row. `asked` is every row that it was asked.
    """

    def __init__(
        self,
        version: str = "2.0.0",
        above: float = 0.5,
        *,
        card: ModelCard | None = None,
        raises: Callable[[Row], bool] = lambda _: False,
        is_nan: Callable[[Row], bool] = lambda _: False,
        clock: FakeClock | None = None,
        seconds: float = 0.0,
    ) -> None:
        super().__init__((card or make_card()).model_copy(update={"version": version}))
        self._above, self._raises, self._is_nan = above, raises, is_nan
        self._clock, self._seconds = clock, seconds
        self.asked: list[Row] = []

    def predict(self, rows: Sequence[Row]) -> Sequence[Hashable]:
        """Return a label for each row, or what is none."""
        self.asked += rows
        if self._clock is not None:
            self._clock.advance(self._seconds * len(rows))
        if any(map(self._raises, rows)):
            raise RuntimeError("the graph failed")
        return ["NaN" if self._is_nan(row) else "Rock" if row[0] > self._above else "Hip-Hop" for row in rows]

    def read(self, output: Any) -> Any:
        """Return the label and its probabilities."""
        return ("Rock", [math.nan, math.nan]) if output == "NaN" else super().read(output)


def contested(
    candidate: FakeModel,
    share: float = 0.0,
    limits: ContestLimits = ContestLimits(),  # noqa: B008 - it never changes
    *,
    before: FakeModel | None = None,
    routes: Sequence[Route] = (ROUTE,),
    clock: Callable[[], float] | None = None,
    **options: Any,
) -> tuple[Pipeline, Contesting]:
    """Return a pipeline in which a candidate contends for the place of a model."""
    contesting = Contesting(candidate, share, limits, clock=clock or FakeClock())
    models = {"genre": before or FakeModel()}
    return Pipeline(routes, models, contests={"genre": contesting}, **options), contesting


def row(loudness: float, sensor: str = "kitchen", **more: Any) -> Message:
    """Return a message of a sensor."""
    return Message(f"in/{sensor}/x", json.dumps({"loudness": loudness, **more}).encode(), 1)


def ask_beside(pipeline: Pipeline, clock: Callable[[], float] = lambda: 0.0) -> None:
    """Have both models asked what was answered."""
    assert pipeline.contests is not None
    pipeline.contests.catch_up(clock)


def compare(pipeline: Pipeline, messages: Sequence[Message], together: int = 20) -> None:
    """Have messages answered, so many together, and then compared."""
    for start in range(0, len(messages), together):
        pipeline.process(messages[start : start + together])
        ask_beside(pipeline)

"""What a node says of drift, on `edge/{node}/drift` and in the answer to `status`: whether what its models are asked, and what they
answer, still looks like what they were trained on.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # a dependency of pydantic, which requires this class before Python 3.12

State = Literal["collecting", "steady", "drifted"]


class DriftedColumn(TypedDict):
    """A feature, or a part of the answers (`label`, `confidence`, `score`, a value), against training.

    `psi` is the population stability index, None where the model card has nothing to compare with; `how` is what changed, in words;
    `independent` is how many independent values there are as much to say as; `below` and `above` are the shares beyond all that training
    saw, `missing` that of missing values. `mean` is that of numbers, `shares` those of labels.
    """

    name: str
    unit: NotRequired[str]
    drifted: bool
    psi: float | None
    independent: int
    how: str
    below: NotRequired[float]
    above: NotRequired[float]
    missing: NotRequired[float]
    mean: NotRequired[float]
    shares: NotRequired[dict[str, float]]


class OddSensor(TypedDict):
    """A sensor with most of its values where next to none of training's were. `topic` is where its answers go."""

    topic: str
    feature: str
    how: str
    share: float


class DriftedModel(TypedDict):
    """A model in the window. `hours` is for how long its rows have been counted, `rows` how many there are; `against` is what
    they are compared with; `outside` is the share of rows with a value beyond all that training saw. `since` is when it was first found
    to have drifted. Of many `features` those that changed most are listed.
    """

    name: str
    version: str
    state: State
    since: str | None
    hours: float
    rows: int
    against: str
    outside: float
    features: list[DriftedColumn]
    answers: list[DriftedColumn]
    sensors: list[OddSensor]


class Drift(TypedDict):
    """All models of a node; retained. `state` is the worst of theirs, `window_hours` the time that is looked at."""

    time: str
    state: State
    window_hours: float
    models: list[DriftedModel]

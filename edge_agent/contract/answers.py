"""What models answer: one dictionary for each kind of answer, and the whole message that it becomes.

The kinds are made by `edge_agent.model.outputs`; everything else that the agent publishes is in `edge_agent.contract.messages`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NotRequired

from typing_extensions import TypedDict  # a dependency of pydantic, which requires this class before Python 3.12


class Each(dict[str, float]):
    """Numbers by name. A format without objects gives each number separately, called `one`/name."""

    __slots__ = ()
    one: ClassVar[str]


class Probabilities(Each):
    """The probability of each label."""

    __slots__ = ()
    one = "probability"


class Values(Each):
    """The value of each output."""

    __slots__ = ()
    one = "value"


class Classified(TypedDict):
    """A label. `confidence` is its probability; `probabilities` sums to 1."""

    label: str
    confidence: float
    probabilities: dict[str, float]


class Decided(TypedDict):
    """A label of a model that has no probabilities."""

    label: str


class Estimated(TypedDict):
    """A number. `unit` is there when the model card has one."""

    value: float
    unit: NotRequired[str]


class EstimatedAll(TypedDict):
    """Several numbers by name; their units are in the node's info."""

    values: dict[str, float]


class Detected(TypedDict):
    """Whether something is out of the ordinary: `score` is higher the more it is."""

    label: Literal["normal", "anomaly"]
    score: float


class Answered(TypedDict):
    """What any model answers beside its kind of answer: which model did. `outside` names the features beyond all that it was
    trained on. `sensor` is what the route captured of the topic, joined by "/", where the route has `name_sensor`.
    """

    model: str
    version: str
    outside: NotRequired[list[str]]
    id: NotRequired[Any]
    time: NotRequired[Any]
    sensor: NotRequired[str]


class Prediction(Answered):
    """What a classification answers. `label` is null, and `uncertain` true, where the confidence is below the route's
    `min_confidence`.
    """

    label: str | None
    uncertain: NotRequired[Literal[True]]
    confidence: float
    probabilities: dict[str, float]


class Decision(Answered, Decided):
    """What a classification without probabilities answers."""


class Estimate(Answered, Estimated):
    """What a regression with one output answers."""


class Estimates(Answered, EstimatedAll):
    """What a regression with several outputs answers."""


class Detection(Answered, Detected):
    """What an anomaly detector answers."""

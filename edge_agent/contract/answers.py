"""What models answer: one dictionary for each kind of answer, and the whole message that it becomes.

The kinds are made by `edge_agent.model.outputs`; what else the agent publishes begins with `edge_agent.contract.messages`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, NotRequired, TypeAlias

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


#: Most rows of one message whose answers are explained, unless `limits` say otherwise.
MAX_EXPLAINED: Final = 100

#: How answers are explained.
Explain: TypeAlias = Literal["none", "path", "shap"]

#: What SHAP values are shares of.
Scale: TypeAlias = Literal["probability", "log-odds", "score", "value", "logarithm", "path length"]


class Nearest(TypedDict):
    """The smallest change of one feature that gives another answer: what has to hold then, for a number by how much it changes
    (in its unit), and the label or the value that it gives.
    """

    feature: str
    condition: str
    change: NotRequired[float]
    label: NotRequired[str]
    value: NotRequired[float]


class PathExplanation(TypedDict):
    """What led to the leaf of a tree, a condition for each feature; `nearest` is None where no feature alone changes the answer."""

    method: Literal["path"]
    conditions: list[str]
    nearest: Nearest | None


class ShapExplanation(TypedDict):
    """SHAP values by feature, the largest first, those that are 0 left out: `base` and they add up to `output`, the `scale` of `of`, a
    label or what is measured.
    """

    method: Literal["shap"]
    of: str
    scale: Scale
    base: float
    output: float
    values: dict[str, float]


class NoExplanation(TypedDict):
    """Why a message that asked for an explanation got none."""

    method: Literal["none"]
    reason: str


Explanation: TypeAlias = PathExplanation | ShapExplanation | NoExplanation


class Answered(TypedDict):
    """What any model answers beside its kind of answer: which model did. `outside` names the features beyond all that it was
    trained on. `explanation` says why, where that was asked for. `sensor` is what the route captured of the topic, joined by "/", where
    the route has `name_sensor`.
    """

    model: str
    version: str
    outside: NotRequired[list[str]]
    explanation: NotRequired[Explanation]
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

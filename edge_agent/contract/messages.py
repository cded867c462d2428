"""The wire contract: the messages that the agent publishes, and the envelope of those that it receives. What models answer, and what is said of
drift and of updates, is in the files beside this one: `answers`, `drift`, `progress`.

The payloads are typed dictionaries: they cost nothing on the way of a message, and `validator` makes from them what
the tests hold everything against that leaves the agent.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from itertools import islice
from typing import Annotated, Any, Final, Literal, NamedTuple, NotRequired

import pydantic_core
from pydantic import StringConstraints, TypeAdapter
from typing_extensions import TypedDict  # a dependency of pydantic, which requires this class before Python 3.12

from edge_agent.contract import topics
from edge_agent.contract.card import ModelName
from edge_agent.contract.drift import Drift
from edge_agent.contract.progress import UpdateProgress

JSON_TYPE: Final = "application/json"

#: Largest body of a packet: its length is four bytes of seven bits (MQTT 5, 1.5.5).
MAX_PACKET_BYTES: Final = 268_435_455
#: Largest message that is read, and largest answer, in bytes, unless `limits` say otherwise.
MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024

#: Longest input, as JSON, that a rejection shows whole.
MAX_SHOWN: Final = 120
#: Most characters of a text that is always shown whole: in JSON each takes at most six bytes.
SHORT: Final = (MAX_SHOWN - 2) // 6
#: Members of an array or object whose JSON is longer than that: each has two bytes at least.
_ENOUGH: Final = MAX_SHOWN // 2 + 2
#: Most reasons that one rejection gives.
MAX_DETAILS: Final = 32


class ErrorCode(StrEnum):
    """The kinds of rejections."""

    INVALID_FEATURES = "invalid_features"
    MALFORMED_PAYLOAD = "malformed_payload"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_CONTENT_TYPE = "unsupported_content_type"
    INVALID_TOPIC = "invalid_topic"
    MODEL_UNAVAILABLE = "model_unavailable"
    INFERENCE_FAILED = "inference_failed"
    UNDELIVERABLE = "undeliverable"


class Detail(TypedDict):
    """One reason, in the form of pydantic's and FastAPI's errors."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any


class Rejection(TypedDict):
    """Why there is no prediction. `topic` is where the message came from (`shown_topic`), None without a broker."""

    error: ErrorCode
    detail: list[Detail]
    topic: str | None
    model: str
    version: str | None
    id: NotRequired[Any]
    time: NotRequired[Any]
    sensor: NotRequired[str]


class ServedOutput(TypedDict):
    """A number that a regression answers; `unit` may be empty."""

    name: str
    unit: str


class ServedModel(TypedDict):
    """A model that this node serves. `labels` are those of a classification or an anomaly detector, `threshold` is the
    score above which there is an anomaly, `outputs` the numbers of a regression.
    """

    name: str
    version: str
    sha256: str
    task: str
    features: list[str]
    labels: NotRequired[list[str]]
    threshold: NotRequired[float]
    outputs: NotRequired[list[ServedOutput]]


class RouteInfo(TypedDict):
    """The topics of a model's features and of its answers."""

    model: str
    subscribe: str
    publish: str
    errors: str


class Described(TypedDict):
    """The versions, models and routes of a node."""

    node: str
    agent: str
    python: str
    onnxruntime: str
    mqtt: str
    started: str
    models: list[ServedModel]
    routes: list[RouteInfo]


class Info(Described):
    """The state and the contents of a node; retained, published on every connection.

    `state` is `degraded` when the broker refused a subscription, which `reason` names.
    """

    state: Literal["online", "degraded"]
    reason: str | None


class Waiting(TypedDict):
    """An incomplete sensor of a gathering route: the features it lacks, and those that are too old.

    `sensor` is what the route captures, `topic` the filter of the sensor's values.
    """

    sensor: str
    topic: str
    missing: list[str]
    stale: list[str]


class UnknownLevel(TypedDict):
    """A level of a route that captures {feature} that has messages but maps to no feature: the topic of the first
    such message, and the level that may be meant.
    """

    level: str
    topic: str
    meant: str | None


class Gathered(TypedDict):
    """The figures of the gathering routes: sensors known now, and those with all values, none of them too old.

    Totals since the start: `forgotten` sensors that made room for others, `ignored` messages that bring no feature.
    `waiting` names some of the sensors that are not complete, the least recently heard first; `unknown` some levels that
    no feature is on.
    """

    sensors: int
    complete: int
    forgotten: int
    ignored: int
    waiting: list[Waiting]
    unknown: list[UnknownLevel]


class Health(TypedDict):
    """The health of a node: totals since it started, and rates over the last `interval` seconds.

    `redelivered` counts messages that the broker sent again, `refused` answers that the broker did not take, `unrouted`
    messages that no route takes (from a subscription of an earlier configuration that the broker still keeps), `ignored`
    those that a route does not answer: empty ones, retained ones that it does not take, those without a feature.
    `outside` and `uncertain` count predictions that say so (`edge_agent.contract.answers.Prediction`).
    `poisoned` counts inputs whose answer ended the connection each time, so that they are not answered any more, `faults`
    errors of the agent itself that it went on after. `latency_ms` runs from a message read off the socket to its answer
    handed to the connection. `temperature` is that of the processor in °C, where the machine tells it. `gathering` is there
    when a route gathers, `update` while one is in progress, `drift` in an answer to the request `status`.
    """

    time: str
    uptime: float
    interval: float
    received: int
    redelivered: int
    predictions: int
    outside: int
    uncertain: int
    rejections: dict[str, int]
    answered: int
    refused: int
    unrouted: int
    ignored: int
    poisoned: int
    faults: int
    acknowledged: int
    in_flight: int
    connections: int
    messages_per_second: float
    predictions_per_second: float
    latency_ms: dict[Literal["p50", "p99"], float] | None
    rss_bytes: int
    temperature: NotRequired[float]
    gathering: NotRequired[Gathered]
    update: NotRequired[UpdateProgress]
    drift: NotRequired[Drift]


class AnnouncedRoute(TypedDict):
    """What was announced to Home Assistant of a route: the `topics` of its answers, and with which entities (`shape`)."""

    publish: str
    shape: str
    topics: list[str]


class Announced(TypedDict):
    """What a node has announced to Home Assistant; retained, for its own next start to take back what is no longer there."""

    prefix: Annotated[str, StringConstraints(pattern=topics.PREFIX)]
    models: list[ModelName]
    routes: list[AnnouncedRoute]


class Status(Health):
    """The answer to the request `status`: current health, and the node. `agent` is its version; `state` and
    `reason` are as in `Info`.
    """

    node: str
    agent: str
    mqtt: str
    state: Literal["online", "degraded"]
    reason: str | None


class Pong(TypedDict):
    """The answer to the request `ping`."""

    pong: Any
    node: str
    time: str


class UnknownVerb(TypedDict):
    """The answer to an unknown request."""

    error: Literal["unknown_verb"]
    verb: str
    known: list[str]


class Busy(TypedDict):
    """The answer to a request above the limit per second; `retry_after` in seconds."""

    error: Literal["busy"]
    verb: str
    retry_after: int


class Carried(NamedTuple):
    """The properties that are copied from a message to its answer (MQTT 5). `expiry` is the remaining time in seconds."""

    correlation_data: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    expiry: int | None = None

    def asked(self, name: str) -> str | None:
        """Return the first User Property of that name."""
        return next((value for key, value in self.user_properties if key == name), None)

    def after(self, seconds: float) -> Carried:
        """Return it with the time spent deducted; an expiry never goes below one second."""
        return self if self.expiry is None else self._replace(expiry=max(1, self.expiry - int(seconds)))


class Message(NamedTuple):
    """A message from the broker.

    `response_topic` is where its sender wants the answer (MQTT 5), not checked yet. `token` is the connection's own
    handle for acknowledging the message, and for what its answers carry over. `duplicate` says that the broker sent it
    before, `retained` that the broker had kept it for whoever subscribes. `explain` is how its sender wants the answer
    explained, not checked yet.
    """

    topic: str
    payload: bytes
    qos: int = 0
    content_type: str | None = None
    token: Any = None
    response_topic: str | None = None
    duplicate: bool = False
    retained: bool = False
    explain: str | None = None


class Answer(NamedTuple):
    """A message to the broker. `content_type` and `carried` reach it with MQTT 5 only."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    content_type: str | None = JSON_TYPE
    carried: Carried | None = None


class Refused(NamedTuple):
    """A refusal by the broker: of a subscription, or of an answer."""

    topic: str
    reason: str


@cache
def validator(kind: Any) -> TypeAdapter[Any]:
    """Return the validator for a payload of `kind`, one of the dictionaries above."""
    return TypeAdapter(kind)


def to_json(value: Any) -> bytes:
    """Encode any received or published value. NaN and infinities, which JSON does not have, become strings."""
    return pydantic_core.to_json(value, inf_nan_mode="strings")


def shown(value: Any) -> Any:
    """Return `value` for a rejection: whole if it is short, else the beginning of its JSON."""
    if type(value) is float or (type(value) is str and len(value) <= SHORT):
        return value
    text = beginning_of_json(value)
    return value if len(text) <= MAX_SHOWN else cut_json(text)


def beginning_of_json(value: Any) -> bytes:
    """Return the JSON of `value`; of one with very many members so much that is longer than what is shown."""
    if type(value) is dict and len(value) > _ENOUGH:
        value = dict(islice(value.items(), _ENOUGH))
    elif type(value) is list and len(value) > _ENOUGH:
        value = value[:_ENOUGH]
    return to_json(value)


def cut_json(text: bytes) -> str:
    """Return the beginning of a text that is too long to show."""
    return text[:MAX_SHOWN].decode(errors="ignore") + "…"


def shown_topic(topic: str) -> str:
    """Return a topic for an answer: whole if it is short, else its beginning. Every row of a batch repeats it."""
    if len(topic) <= MAX_SHOWN // 4:
        return topic
    encoded = topic.encode(errors="replace")
    return topic if len(encoded) <= MAX_SHOWN else encoded[:MAX_SHOWN].decode(errors="ignore") + "…"


def cut_details(details: list[Detail], limit: int = MAX_DETAILS, *, total: int = 0) -> list[Detail]:
    """Limit a list of reasons: their number, and the input shown in each. `total` is their number
    when `details` are only the first of them.
    """
    kept: list[Detail] = [{**detail, "input": shown(detail["input"])} for detail in details[:limit]]
    if (more := max(total, len(details)) - len(kept)) > 0:
        kept.append({"type": "more", "loc": [], "msg": f"and {more} more", "input": None})
    return kept

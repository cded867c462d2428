"""Settings of each route. `edge_agent.routing.routes` checks the routes together."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from edge_agent.config.values import (
    Age,
    ContentType,
    FeatureName,
    FieldPath,
    LevelText,
    Model,
    Number,
    Pool,
    Section,
    TopicText,
    Wait,
)
from edge_agent.contract.answers import Explain
from edge_agent.contract.messages import JSON_TYPE
from edge_agent.contract.templates import Template
from edge_agent.errors import SettingsError
from edge_agent.payload import formats
from edge_agent.payload.checks import ECHOED
from edge_agent.payload.places import Conversion, Fields, Place
from edge_agent.payload.ranges import Outside
from edge_agent.payload.sparkplug import CONTENT_TYPE as SPARKPLUG
from edge_agent.routing.routes import Route, refuse_mixtures
from edge_agent.routing.sources import FEATURE, Partial, Source

#: Topics of AWS IoT's own that devices publish to, such as device shadows and basic ingest.
_AWS: Final = "$aws/"
_NOWHERE: Final = (
    "fields: an empty list leads nowhere; it stands for the whole payload in a [[route.source]] without {feature}"
)


class FieldSettings(Section):
    """Where a feature sits in the sensor's own JSON, and what is made of what is there. A path alone will do."""

    #: Default: the feature's own name.
    at: FieldPath | None = None
    #: A number is taken times `scale`, plus `offset`.
    scale: Number = 1.0
    offset: Number = 0.0
    #: What stands for a word: for what is not listed, nothing does.
    map: Annotated[dict[Annotated[str, StringConstraints(max_length=128)], Number], Field(max_length=256)] = Field(
        default_factory=dict
    )
    #: Whether text with a decimal comma or a unit is a number.
    lenient: bool = False

    @model_validator(mode="before")
    @classmethod
    def _a_path_alone(cls, value: object) -> object:
        if isinstance(value, str | list | tuple):
            return {"at": value}
        if not isinstance(value, dict):
            raise ValueError('not a path, such as "audio.bpm", nor a table, such as { at = "audio.bpm", scale = 0.1 }')  # noqa: TRY004
        return value

    @model_validator(mode="after")
    def _some_scale(self) -> Self:
        if self.scale == 0:
            raise ValueError("scale: with 0 each value would be the same")
        return self

    def place(self, name: str, *, whole: bool = False) -> Place:
        """Return the place of the feature `name`. `whole`: a text is one key, dots and all."""
        how = Conversion(self.scale, self.offset, tuple(self.map.items()), self.lenient)
        at = (name,) if self.at is None else (self.at,) if whole and isinstance(self.at, str) else _steps(self.at)
        return Place(at, None if how == Conversion() else how)


def _lead_somewhere(paths: dict[str, FieldPath]) -> dict[str, FieldPath]:
    for name, path in paths.items():
        if path == "" or not all(_steps(path)):
            raise ValueError(f'{name}: {path!r} leads nowhere; write for example "audio.bpm"')
    return paths


def _sound_fields(fields: dict[str, FieldSettings]) -> dict[str, FieldSettings]:
    _lead_somewhere({name: one.at for name, one in fields.items() if one.at is not None})
    for name in ECHOED:
        if name in fields and fields[name].place(name).how is not None:
            raise ValueError(f"{name} goes back with the answer as it came; write only its path")
    return fields


#: Where something sits in the sensor's own JSON: "audio.bpm", or a list where a key has a dot in it; or a table.
Places = Annotated[dict[FeatureName, FieldSettings], Field(max_length=1024), AfterValidator(_sound_fields)]
#: Names that topics or payloads say of a sensor.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class SourceSettings(Section):
    """Topics of one kind that bring some of the features of a sensor."""

    subscribe: TopicText
    #: Where the features are that come from here. An empty list is the whole payload. Default: each under its own name.
    fields: Places = Field(default_factory=dict)
    #: What the topic does not say of the sensor, by name.
    sensor: Annotated[dict[Name, LevelText], Field(max_length=16)] = Field(default_factory=dict)

    def source(self) -> Source:
        """Return the source; raises `TopicError` or `SettingsError`."""
        subscribe, fields = _input(self.subscribe), _fields(self.fields)
        if FEATURE in subscribe.captures and any(place.at == () for _, place in fields):
            raise SettingsError(f"topic {self.subscribe!r}: {_NOWHERE}")
        return Source(subscribe, fields, tuple(self.sensor.items()), only_fields=bool(self.fields))


class RouteSettings(Section):
    """The topics of a model's features, and of its answers."""

    model: Model = "genre"
    subscribe: TopicText = "music/{sensor}/features"
    publish: TopicText = "music/{sensor}/genre"
    #: Default: `publish` + "/error".
    errors: TopicText | None = None
    #: In place of `subscribe` and `fields`: features of one sensor from different topics.
    source: Annotated[tuple[SourceSettings, ...], Field(min_length=1, max_length=64)] | None = None
    #: Agents with the same pool share the messages: each message goes to one of them.
    share: Pool | None = None
    #: Format of messages without a content type; MQTT 3.1.1 has none.
    content_type: ContentType = JSON_TYPE
    #: Where features, and `id` and `time`, sit in the sensor's own JSON.
    fields: Places = Field(default_factory=dict)
    #: What becomes of a message that lacks features. Default: "merge" with sources, else "reject".
    partial: Partial = "reject"
    #: What the payload says of the sensor: names, with the paths to them.
    capture: Annotated[dict[Name, FieldPath], Field(max_length=16), AfterValidator(_lead_somewhere)] = Field(
        default_factory=dict
    )
    #: Whether retained messages are taken.
    retained: Literal["take", "ignore"] = "take"
    #: Seconds; both are for routes that remember values.
    max_age: Age | None = None
    debounce: Wait = 0.0
    #: Whether an answer says, in `sensor`, what the route captured.
    name_sensor: bool = False
    #: What becomes of a value beyond all that the model was trained on.
    outside: Outside = "flag"
    #: The confidence below which an answer has no label.
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: Whether the broker is asked to keep predictions.
    retain: bool = False
    #: For Home Assistant, of a model with two labels: the one with which a binary sensor is on.
    binary_sensor: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    #: How answers are explained, and whether a message may ask for it by its user property `explain`.
    explain: Explain = "none"
    explain_requests: bool = True

    @model_validator(mode="after")
    def _one_kind_of_input(self) -> Self:
        if self.source is None:
            if any(one.at == () for one in self.fields.values()):
                raise ValueError(_NOWHERE)
            return self
        for name in ("subscribe", "fields"):
            if name in self.model_fields_set:
                raise ValueError(f"{name}: write it below each [[route.source]]")
        if "partial" in self.model_fields_set and self.partial != "merge":
            raise ValueError(f'partial = "{self.partial}": with several sources, messages are merged; leave it out')
        return self

    def route(self) -> Route:
        """Return the route with its templates; raises `TopicError` or `SettingsError`."""
        sources = tuple(one.source() for one in self.source or ())
        route = Route(
            self.model,
            sources[0].subscribe if sources else _input(self.subscribe),
            Template(self.publish, output=True),
            Template(self.errors if self.errors is not None else f"{self.publish}/error", output=True),
            _fields(self.fields, whole=self.content_type == SPARKPLUG),
            self.share,
            self._content_type(),
            self.max_age,
            self.debounce,
            self.name_sensor,
            "merge" if sources else self.partial,
            sources,
            tuple((name, Place(_steps(path))) for name, path in self.capture.items()),
            takes_retained=self.retained == "take",
            outside=self.outside,
            min_confidence=self.min_confidence,
            retain=self.retain,
            binary_sensor=self.binary_sensor,
            explain=self.explain,
            explain_requests=self.explain_requests,
        )
        refuse_mixtures(route)
        self._refuse_outputs(route)
        return route

    def _content_type(self) -> str | None:
        chosen = formats.ALL[self.content_type]
        if not chosen.is_there():
            raise SettingsError(f"{self.content_type} needs {chosen.needs}")
        return None if self.content_type == JSON_TYPE else self.content_type

    def _refuse_outputs(self, route: Route) -> None:
        subscribed = route.inputs[0].subscribe
        for template in (route.publish, route.errors):
            if missing := template.captures - set(route.names):
                unset = "" if "publish" in self.model_fields_set else " (the default of publish: set it)"
                raise SettingsError(
                    f"topic {template.text!r}{unset}: {{{min(missing)}}} does not stand in {subscribed.text!r}, "
                    "so nothing is known to put there"
                )
            for name in template.captures:
                if (template.several == name) != (subscribed.several == name):
                    meant = f"{{{name}...}}" if subscribed.several == name else f"{{{name}}}"
                    raise SettingsError(f"topic {template.text!r}: write {meant}, as in {subscribed.text!r}")
            if template.text.startswith("$") and not template.text.startswith(_AWS):
                raise SettingsError(f"topic {template.text!r}: topics that begin with $ belong to the broker")


def _input(text: str) -> Template:
    if text.startswith("$share/"):
        raise SettingsError(f'topic {text!r}: write share = "…" instead')
    return Template(text)


def _fields(settings: dict[str, FieldSettings], *, whole: bool = False) -> Fields:
    return tuple((name, one.place(name, whole=whole)) for name, one in settings.items())


def _steps(path: FieldPath) -> tuple[str, ...]:
    return tuple(path.split(".")) if isinstance(path, str) else path

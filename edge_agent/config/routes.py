"""Settings of the routes: each by itself. What routes may not do together, `edge_agent.routing.routes` says."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, field_validator

from edge_agent.config.values import Age, ContentType, FeatureName, FieldPath, Model, Pool, Section, TopicText, Wait
from edge_agent.contract.messages import JSON_TYPE
from edge_agent.contract.templates import Template
from edge_agent.errors import SettingsError
from edge_agent.payload import formats
from edge_agent.routing.routes import FEATURE, Route, refuse_mixtures

#: Topics of AWS IoT's own that devices publish to, such as device shadows and basic ingest.
_AWS: Final = "$aws/"


class RouteSettings(Section):
    """Which topics carry a model's features, and where its answers go."""

    model: Model = "genre"
    subscribe: TopicText = "music/{sensor}/features"
    publish: TopicText = "music/{sensor}/genre"
    #: Default: `publish` + "/error".
    errors: TopicText | None = None
    #: Agents with the same name here take turns: each message goes to one of them.
    share: Pool | None = None
    #: Of messages that do not say; MQTT 3.1.1 can't.
    content_type: ContentType = JSON_TYPE
    #: Where a feature sits in the sensor's own JSON: "audio.bpm", or a list where a key has a dot in it.
    fields: Annotated[dict[FeatureName, FieldPath], Field(max_length=1024)] = Field(default_factory=dict)
    #: Seconds; both are for routes that capture {feature}.
    max_age: Age | None = None
    debounce: Wait = 0.0
    #: Whether an answer says, in `sensor`, what the route captured.
    name_sensor: bool = False

    @field_validator("fields")
    @classmethod
    def _paths(cls, fields: dict[str, FieldPath]) -> dict[str, FieldPath]:
        for name, path in fields.items():
            if not path or not all(_steps(path)):
                raise ValueError(f'{name}: {path!r} leads nowhere; write for example "audio.bpm"')
        return fields

    def route(self) -> Route:
        """Return the route with its templates; raises `TopicError` or `SettingsError`."""
        subscribe, publish = Template(self.subscribe), Template(self.publish, output=True)
        errors = Template(self.errors if self.errors is not None else f"{self.publish}/error", output=True)
        for template in (publish, errors):
            if missing := template.captures - subscribe.captures:
                unset = "" if "publish" in self.model_fields_set else " (the default of publish: set it)"
                raise SettingsError(
                    f"topic {template.text!r}{unset}: {{{min(missing)}}} does not stand in {subscribe.text!r}, "
                    "so nothing is known to put there"
                )
            for name in template.captures - {FEATURE}:
                if (template.several == name) != (subscribe.several == name):
                    meant = f"{{{name}...}}" if subscribe.several == name else f"{{{name}}}"
                    raise SettingsError(f"topic {template.text!r}: write {meant}, as in {subscribe.text!r}")
            if template.text.startswith("$") and not template.text.startswith(_AWS):
                raise SettingsError(f"topic {template.text!r}: topics that begin with $ belong to the broker")
        if self.subscribe.startswith("$share/"):
            raise SettingsError(f'topic {self.subscribe!r}: write share = "…" instead')
        fields = tuple((name, _steps(path)) for name, path in self.fields.items())
        content_type = None if self.content_type == JSON_TYPE else self.content_type
        chosen = formats.ALL[self.content_type]
        if not chosen.is_there():
            raise SettingsError(f"{self.content_type} needs {chosen.needs}")
        route = Route(
            self.model,
            subscribe,
            publish,
            errors,
            fields,
            self.share,
            content_type,
            self.max_age,
            self.debounce,
            self.name_sensor,
        )
        refuse_mixtures(route)
        return route


def _steps(path: FieldPath) -> tuple[str, ...]:
    return tuple(path.split(".")) if isinstance(path, str) else path

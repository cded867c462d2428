"""What Home Assistant is told: one device discovery message for the node, and one for each answered topic.

Rules:

* states are read from the topics that are there anyway, by templates: discovery adds no message to an answer;
* Home Assistant refuses a whole device over one unknown key at its root, `options` without `device_class: enum`, or an id
  with other characters than letters, digits, `_` and `-`; it ignores a state that is not among the options and keeps the old one. So what
  comes from outside (levels of topics, labels) reaches none of these as it is: `_id`, `_options`, `_quoted`;
* a payload depends on nothing but the node, the route, the model's card and the topic, so that the same one is made again after a
  restart.

Everything here is pure. Who has been announced, and when, is the business of `edge_agent.serving.discovery`.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

from edge_agent.contract import topics
from edge_agent.contract.card import ModelCard
from edge_agent.contract.messages import Answer, to_json
from edge_agent.contract.progress import ModelState
from edge_agent.routing.routes import Route
from edge_agent.wording import plain

_Json: TypeAlias = dict[str, Any]

#: Longest readable part of an id, and longest name, in characters.
_READABLE: Final = 96
#: Longest state of Home Assistant, in characters.
_LONGEST_STATE: Final = 255
#: What Home Assistant takes for something else than a state.
_RESERVED: Final = frozenset({"", "None", "unknown", "unavailable"})
#: How many reports of health may be missing before what they say is out of date.
_MISSED: Final = 3

#: The row that counts, as `a`: of a batch the last one with an answer. Where there is none, the old state stays.
_ROW: Final = (
    "{% set a = value_json if value_json is mapping else (value_json | rejectattr('error', 'defined') | list | last) %}"
)


class About(NamedTuple):
    """The node. `models` are names and versions, `interval` the seconds between two reports, `expire_after` the seconds
    after which an answer is too old, 0 for never; `has_temperature` says that the board tells its own,
    `tells_models` that nobody else says which versions of models there are, `has_drift` that the node watches for drift,
    `asks_before_installing` that a person decides when a new version is installed.
    """

    node: str
    prefix: str
    agent: str
    models: tuple[tuple[str, str], ...]
    interval: float
    expire_after: float = 0.0
    has_temperature: bool = False
    tells_models: bool = True
    has_drift: bool = False
    asks_before_installing: bool = False

    @property
    def status(self) -> str:
        """The topic on which Home Assistant says that it is online."""
        return f"{self.prefix}/status"

    @property
    def device(self) -> str:
        """The id of the node's own device."""
        return _id(f"edge-agent-{self.node}")

    def topic(self, device: str) -> str:
        """The topic of a device's discovery message."""
        return f"{self.prefix}/device/{device}/config"


class Kind(NamedTuple):
    """What is announced of the answers of a route: see `kind_of`. `shape` says which entities there are: where they are others
    than before, what was announced has to be taken back first.
    """

    route: Route
    card: ModelCard
    entities: Mapping[str, _Json]
    shape: str


def kind_of(route: Route, card: ModelCard) -> Kind:
    """Return what is announced of the answers of a route; `card` is that of its model."""
    entities = _entities(card, route.binary_sensor)
    return Kind(route, card, entities, ", ".join(f"{one['platform']} {key}" for key, one in entities.items()))


def announced_topic(about: About, topic: str) -> str:
    """Return the topic of the discovery message for what is answered on `topic`."""
    return about.topic(_sensor_id(about, topic))


def sensor(about: About, kind: Kind, topic: str) -> Answer:
    """Return the discovery message for what the route answers on `topic`."""
    device = _sensor_id(about, topic)
    name = _name(kind, topic)
    components = {
        key: {
            **one,
            "unique_id": f"{device}-{key}",
            "default_entity_id": _entity_id(one, name),
            "value_template": _ROW + one["value_template"],
            **({"expire_after": math.ceil(about.expire_after)} if about.expire_after else {}),
        }
        for key, one in kind.entities.items()
    }
    main = next(iter(components.values()))
    main["json_attributes_topic"] = topic
    main["json_attributes_template"] = _ROW + _attributes(kind.card)
    payload = {
        "device": {
            "identifiers": [device],
            "name": name,
            "manufacturer": "edge-agent",
            "model": kind.card.name,
            "sw_version": kind.card.version,
            "via_device": about.device,
        },
        "origin": _origin(about),
        "state_topic": topic,
        "availability": [_available(about)],
        "components": components,
    }
    return Answer(about.topic(device), to_json(payload), qos=1, retain=True)


def node(about: About, gone: Iterable[str] = ()) -> Answer:
    """Return the discovery message for the node itself. `gone` are models that it had before: an entity that is only left out
    stays.
    """
    health, device = topics.health(about.node), about.device
    fresh = {"expire_after": math.ceil(_MISSED * about.interval)}
    info = topics.info(about.node)
    components: dict[str, _Json] = {
        "state": {
            "platform": "sensor",
            "name": "State",
            "state_topic": topics.state(about.node),
            "device_class": "enum",
            "options": ["online", "degraded", "offline"],
        },
        "models": {
            "platform": "sensor",
            "name": "Models",
            "state_topic": info,
            "value_template": "{% set ns = namespace(told=[]) %}{% for m in value_json.models %}"
            "{% set ns.told = ns.told + [m.name ~ ' ' ~ m.version] %}{% endfor %}{{ (ns.told | join(', '))[:"
            f"{_LONGEST_STATE}] }}}}",
            "json_attributes_topic": info,
            "json_attributes_template": "{% set ns = namespace(told={}) %}{% for m in value_json.models %}"
            "{% set ns.told = dict(ns.told, **{m.name: m.version}) %}{% endfor %}"
            "{{ {'versions': ns.told, 'mqtt': value_json.mqtt, 'reason': value_json.reason} | tojson }}",
        },
        "rate": {
            "platform": "sensor",
            "name": "Messages",
            "state_topic": health,
            "value_template": "{{ value_json.messages_per_second }}",
            "unit_of_measurement": "msg/s",
            "state_class": "measurement",
            **fresh,
        },
        "rejections": {
            "platform": "sensor",
            "name": "Rejections",
            "state_topic": health,
            "value_template": "{{ value_json.rejections.values() | sum }}",
            "state_class": "total_increasing",
            "json_attributes_topic": health,
            "json_attributes_template": "{{ value_json.rejections | tojson }}",
            **fresh,
        },
    }
    if about.has_temperature:
        components["temperature"] = {
            "platform": "sensor",
            "name": "Temperature",
            "state_topic": health,
            "value_template": "{{ value_json.temperature }}",
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "state_class": "measurement",
            **fresh,
        }
    if about.has_drift:
        components["drift"] = _drift(topics.drift(about.node))
    for one in components.values():
        one["entity_category"] = "diagnostic"
    for name, _ in about.models:
        components[f"update-{_id(name)}"] = {
            "platform": "update",
            "name": f"Model {name}",
            "state_topic": topics.model(about.node, name),
            # Home Assistant refuses a key that it does not know here, too; and one of the topic's may come without a value.
            "value_template": "{% set ns = namespace(told={}) %}{% for k in ['installed_version', 'latest_version', 'title', "
            "'release_summary', 'in_progress', 'update_percentage'] if value_json[k] is defined and value_json[k] is not none %}"
            "{% set ns.told = dict(ns.told, **{k: value_json[k]}) %}{% endfor %}{{ ns.told | tojson }}",
        }
        if about.asks_before_installing:
            install = topics.request(about.node).render({"verb": "install"})
            components[f"update-{_id(name)}"] |= {"command_topic": install, "payload_install": name}
    for key, one in components.items():
        one["unique_id"] = f"{device}-{key}"
        one["default_entity_id"] = _entity_id(one, about.node)
        if key != "state":  # which says itself that the node is offline
            one["availability"] = [_available(about)]
    components |= {f"update-{_id(name)}": {"platform": "update"} for name in gone}
    if not about.has_drift:  # it may have been there before
        components["drift"] = {"platform": "binary_sensor"}
    payload = {
        "device": {
            "identifiers": [device],
            "name": about.node,
            "manufacturer": "edge-agent",
            "sw_version": about.agent,
        },
        "origin": _origin(about),
        "components": components,
    }
    return Answer(about.topic(device), to_json(payload), qos=1, retain=True)


def _drift(topic: str) -> _Json:
    """Return the entity that is on where a model has drifted; its attributes say which, and how."""
    return {
        "platform": "binary_sensor",
        "name": "Drift",
        "device_class": "problem",
        "state_topic": topic,
        "value_template": "{{ 'ON' if value_json.state == 'drifted' else 'OFF' }}",
        "json_attributes_topic": topic,
        "json_attributes_template": "{% set ns = namespace(told={}) %}{% for m in value_json.models %}"
        "{% for c in m.features + m.answers if c.drifted %}"
        "{% set ns.told = dict(ns.told, **{m.name ~ ' ' ~ c.name: c.how}) %}{% endfor %}{% endfor %}{{ ns.told | tojson }}",
    }


def model_state(about: About, name: str, version: str) -> Answer:
    """Return what is retained of a model: nothing but the installed version is known, so nothing newer is."""
    said: ModelState = {
        "installed_version": version,
        "latest_version": version,
        "in_progress": False,
        "title": name,
        "state": "idle",
    }
    return Answer(topics.model(about.node, name), to_json(said), qos=1, retain=True)


def _entities(card: ModelCard, on: str | None) -> dict[str, _Json]:
    """Return what a model's answers have for entities, by their keys; the first is the main one, called like the device.
    `on` is the label with which a binary sensor is on, None for a sensor with labels.
    """
    if card.task == "regression":
        several = len(card.outputs) > 1
        return {
            (f"value-{_id(one.name)}" if several else "value"): {
                "platform": "sensor",
                "name": one.name if several else None,
                "state_class": "measurement",
                "value_template": f"{{{{ a['values'][{_quoted(one.name)}] }}}}" if several else "{{ a.value }}",
                **({"unit_of_measurement": one.unit} if one.unit else {}),
            }
            for one in card.outputs
        }
    if card.task == "anomaly":
        main = {"anomaly": {**_binary("anomaly"), "device_class": "problem"}}
        return {**main, "score": _diagnostic("Score", "{{ a.score }}")}
    found = {"binary": _binary(on)} if on is not None else {"label": _enum(card.labels)}
    if card.has_probabilities:
        percent = _diagnostic("Confidence", "{{ (a.confidence * 100) | round(1) }}")
        found["confidence"] = {**percent, "unit_of_measurement": "%"}
    return found


def _enum(labels: Sequence[str]) -> _Json:
    options = _options(labels)
    # A label of null, of an answer that is not sure, is "None" here: then the state is unknown.
    template = "{{ a.label }}"
    if any(label != option for label, option in options.items()):
        unlike = {label: option for label, option in options.items() if label != option}
        pairs = ", ".join(f"{_quoted(label)}: {_quoted(option)}" for label, option in unlike.items())
        template = f"{{{{ {{{pairs}}}.get(a.label, a.label) }}}}"
    return {
        "platform": "sensor",
        "name": None,
        "device_class": "enum",
        "options": list(options.values()),
        "value_template": template,
    }


def _binary(on: str) -> _Json:
    return {
        "platform": "binary_sensor",
        "name": None,
        "value_template": f"{{{{ 'None' if a.label is none else 'ON' if a.label == {_quoted(on)} else 'OFF' }}}}",
    }


def _diagnostic(name: str, template: str) -> _Json:
    return {
        "platform": "sensor",
        "name": name,
        "entity_category": "diagnostic",
        "state_class": "measurement",
        "value_template": template,
    }


def _attributes(card: ModelCard) -> str:
    told = "'model': a.model, 'version': a.version, 'outside': a.outside | default([])"
    if card.has_probabilities:
        told += ", 'probabilities': a.probabilities, 'uncertain': a.uncertain | default(false)"
    return f"{{{{ ({{{told}}} if a is defined else {{}}) | tojson }}}}"


def _options(labels: Iterable[str]) -> Mapping[str, str]:
    """Return what Home Assistant shows of each label: a template's result is stripped, has at most 255 characters, and some
    words mean something else there.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        option = label.strip()
        if option in _RESERVED:
            option = f"{option} (label)".strip()
        begin = option = option if len(option) <= _LONGEST_STATE else option[: _LONGEST_STATE - 16].strip() + "…"
        number = 1
        while option in taken:
            number += 1
            option = f"{begin} ({number})"
        taken.add(option)
        found[label] = option
    return found


def _available(about: About) -> _Json:
    template = "{{ 'offline' if value == 'offline' else 'online' }}"
    return {"topic": topics.state(about.node), "value_template": template}


def _origin(about: About) -> _Json:
    return {"name": "edge-agent", "sw_version": about.agent}


def _sensor_id(about: About, topic: str) -> str:
    return _id(f"edge-agent-{about.node}-{topic}", always=True)


def _id(text: str, *, always: bool = False) -> str:
    """Return text with only the characters that an id may have: where it loses something by that, or `always`, with a hash of
    the whole, so that no two are the same.
    """
    clean = re.sub(r"[^A-Za-z0-9_-]+", "-", text)
    if clean == text and not always and len(text) <= _READABLE:
        return text
    return f"{clean[:_READABLE].strip('-')}-{blake2b(text.encode(errors='replace'), digest_size=8).hexdigest()}"


def _entity_id(entity: _Json, device: str) -> str:
    """Return the id that an entity is to have at first: by the name of its device, and its own."""
    name = unicodedata.normalize("NFKD", f"{device} {entity['name'] or ''}").encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:_READABLE] or "edge_agent"
    return f"{entity['platform']}.{slug}"


def _name(kind: Kind, topic: str) -> str:
    """Return what a device is called: by what its topic captures, and its model."""
    captured = kind.route.publish.match(topic) or {}
    name = " ".join([*(level.replace("/", " ") for level in captured.values()), kind.card.name])
    return plain(name).strip()[:_READABLE]


def _quoted(text: str) -> str:
    """Return text as a literal of a template, without any mark that could end the template."""
    literal = json.dumps(text, ensure_ascii=False)
    return re.sub(r"[{}%#]", lambda mark: f"\\u{ord(mark[0]):04x}", literal)

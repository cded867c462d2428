"""The node's own topics: what it says of itself, and what it can be asked."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, get_type_hints

from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.contract.drift import Drift
from edge_agent.contract.messages import JSON_TYPE, Announced, Busy, Health, Info, UnknownVerb
from edge_agent.contract.progress import ModelState
from edge_agent.contract.templates import Template
from edge_agent.docs.channels import Channels, message
from edge_agent.docs.keys import ref
from edge_agent.docs.schemas import PLACE, Schema
from edge_agent.docs.served import CONTENT_TYPE
from edge_agent.serving.announcements import ONLINE, Standing, will
from edge_agent.serving.requests import VERBS

#: What the agent answers to requests, by the verb.
ANSWERS: Final = {name: get_type_hints(verb.answer)["return"] for name, verb in VERBS.items()}
_STATES: Final = (ONLINE.state, Standing("").state, will("").payload.decode())
_ANY: Final[Schema] = {}
_BYTES: Final = "application/octet-stream"


class _Said(NamedTuple):
    """Something that the node says of itself; it is retained, or sent at QoS 0."""

    name: str
    topic: str
    payload: Schema
    about: str
    kept: bool = True
    content_type: str = JSON_TYPE


def kinds(settings: Settings) -> tuple[Any, ...]:
    """Return the dictionaries of the wire contract that are on these topics."""
    announced = (Announced,) if settings.home_assistant.enabled else ()
    told = (ModelState,) if settings.home_assistant.enabled or settings.update.channel else ()
    drift = (Drift,) if settings.drift.enabled else ()
    return (Info, Health, *drift, *ANSWERS.values(), Busy, UnknownVerb, *told, *announced)


def add(channels: Channels, settings: Settings, models: list[str]) -> None:
    """Add the node's own channels; `models` are the names of those that it serves."""
    retains = settings.mqtt.retain is not False
    for said in _said(settings, models):
        key = channels.add(
            said.name,
            Template(said.topic, output=True),
            {said.name: message(said.content_type, said.payload, said.name)},
            said.about,
        )
        channels.send(key, said.about, qos=int(said.kept), retain=said.kept and retains)
    if settings.home_assistant.enabled:
        status, _ = settings.home_assistant.topics
        about = "Home Assistant is there again: what it was told is said once more."
        key = channels.add("home-assistant", Template(status), {"status": message("text/plain", _ANY, "status")}, about)
        channels.receive(key, about)
    if settings.update.channel:
        _add_updates(channels, settings.update.channel)
    for name, verb in VERBS.items():
        _add_verb(channels, settings.node.id, name, verb.about, ANSWERS[name])
    _add_verb(channels, settings.node.id, "{verb}", "what there is to ask", UnknownVerb)


def _said(settings: Settings, models: list[str]) -> list[_Said]:
    node, seconds = settings.node.id, settings.health.interval
    states: Schema = {"type": "string", "enum": list(_STATES)}
    about = "Whether the node is there; offline is also its will."
    said = [
        _Said("state", topics.state(node), states, about, content_type="text/plain"),
        _Said("info", topics.info(node), _kind(Info), "Versions, models and routes of the node."),
        _Said(
            "health", topics.health(node), _kind(Health), f"Counters and rates, every {seconds:g} seconds.", kept=False
        ),
    ]
    if settings.drift.enabled:
        every = (
            f"How what models are asked and answer differs from training, every {settings.drift.interval:g} seconds."
        )
        said.append(_Said("drift", topics.drift(node), _kind(Drift), every))
    if settings.publishes_docs:
        about = "This document, where the broker keeps it."
        said.append(_Said("docs", topics.docs(node), {"type": "object"}, about, content_type=CONTENT_TYPE))
    told = models if settings.home_assistant.enabled else []
    if settings.update.channel:
        told = [*told, *(route.model for route in settings.route if not route.model.endswith(".onnx"))]
    for one in dict.fromkeys(told):
        about = f"Versions of the model {one}, and how far an update has come."
        said.append(_Said(f"model-{one}", topics.model(node, one), _kind(ModelState), about))
    if settings.home_assistant.enabled:
        _, config = settings.home_assistant.topics
        said += [
            _Said(
                "announced",
                topics.announced(node),
                _kind(Announced),
                "What Home Assistant was told, for the next start.",
            ),
            _Said("discovery", config, {"type": "object"}, "Devices of Home Assistant, by MQTT discovery."),
        ]
    return said


def _add_updates(channels: Channels, channel: str) -> None:
    """Add what the node takes of its channel of models."""
    text: Schema = {"type": "string"}
    manifest = _object(manifest=text, signature=text, wave={"type": "array", "items": text})
    keys = _object(keys=text, signature=text)
    for name, topic, kind, payload, about in (
        (
            "manifest",
            topics.manifest(channel),
            JSON_TYPE,
            manifest,
            "What the nodes of the channel are to serve, signed.",
        ),
        ("keys", topics.keys(channel), JSON_TYPE, keys, "The keys that sign from now on, signed with those before."),
        ("blob", topics.blob(channel, "{sha256}", "{number}"), _BYTES, _ANY, "One piece of a model file."),
    ):
        key = channels.add(name, Template(topic), {name: message(kind, payload, name)}, about)
        channels.receive(key, about)


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": [*properties][:2], "properties": properties}


def _add_verb(channels: Channels, node: str, verb: str, about: str, kind: type[Any]) -> None:
    name = "other" if verb == "{verb}" else verb
    answers = {one.__name__.lower(): message(JSON_TYPE, _kind(one), one.__name__) for one in (kind, Busy)}
    answer = Template(topics.response(node, verb), output=True)
    response = channels.add(f"response-{name}", answer, answers, f"The answer to a request: {about}.")
    asked = {"request": message("text/plain", _ANY, "A request")}
    request = Template(topics.request(node).render({"verb": verb}))
    key = channels.add(f"request-{name}", request, asked, f"A request for {about}.")
    channels.receive(key, f"A request for {about}.", channels.reply(response))


def _kind(kind: Any) -> Schema:
    return ref(*PLACE, kind.__name__)

"""Channels and operations: the topics, and what the agent takes and publishes there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from edge_agent.contract.templates import ANY, Template
from edge_agent.docs.keys import SPECIAL, Keys, ref
from edge_agent.docs.schemas import Schema
from edge_agent.docs.server import BINDING

#: A level that is written as a parameter with one value: these characters mean something in a URI, and an empty level at the
#: end would be lost.
_UNFIT: Final = frozenset("?#{}")


class Channels:
    """Collects channels and operations; each has the messages that may come or go there."""

    def __init__(self) -> None:
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        self._keys = Keys()

    def add(
        self,
        name: str,
        topic: Template | None,
        messages: Mapping[str, Mapping[str, Any]],
        about: str,
        *,
        known: Mapping[str, Mapping[str, Any]] = {},
    ) -> str:
        """Add a channel and return its key. Without a topic it is one that a message says. `known` are parameters of which there is
        more to say.
        """
        key = self._keys.make(name)
        address, parameters = (None, {}) if topic is None else addressed(topic, known)
        self.channels[key] = {
            "address": address,
            "description": about,
            "messages": {one: dict(message) for one, message in messages.items()},
            **({"parameters": parameters} if parameters else {}),
        }
        return key

    def receive(self, key: str, about: str, reply: Mapping[str, Any] | None = None) -> None:
        """Say that the agent takes what comes on a channel."""
        self._operate("receive", key, about, {}, {"reply": dict(reply)} if reply else {})

    def send(self, key: str, about: str, *, qos: int | None = None, retain: bool = False) -> None:
        """Say that the agent publishes on a channel; without a QoS, with that of what it answers."""
        binding: dict[str, Any] = {"retain": retain} if qos is None else {"qos": qos, "retain": retain}
        self._operate("send", key, about, binding, {})

    def _operate(self, action: str, key: str, about: str, binding: dict[str, Any], more: dict[str, Any]) -> None:
        bindings = {"bindings": {"mqtt": {**binding, "bindingVersion": BINDING}}} if binding else {}
        self.operations[f"{action}-{key}"] = {
            "action": action,
            "channel": ref("channels", key),
            "summary": about,
            "messages": self.messages(key),
            **bindings,
            **more,
        }

    def messages(self, key: str) -> list[dict[str, str]]:
        """Return references to the messages of a channel."""
        return [ref("channels", key, "messages", name) for name in self.channels[key]["messages"]]

    def reply(self, key: str, *, location: str | None = None) -> dict[str, Any]:
        """Return the reply object of answers on a channel; `location` says where the topic stands in the question."""
        where = {} if location is None else {"address": {"location": location}}
        return {**where, "channel": ref("channels", key), "messages": self.messages(key)}


def addressed(topic: Template, known: Mapping[str, Mapping[str, Any]] = {}) -> tuple[str, dict[str, Any]]:
    """Return the address of a topic, and its parameters."""
    parameters: dict[str, Any] = {}
    levels = topic.text.split("/")
    for position, level in enumerate(levels):
        name = level[1:-1].removesuffix("...") if level.startswith("{") else ""
        if name in topic.captures:
            name = f"{name}_" if name in SPECIAL else name
            many = "One or more levels" if name == topic.several else "One level"
            parameters[name] = {"description": f"{many} of the topic.", **known.get(name, {})}
        elif level == f"{{{ANY}}}":
            name = _unlike(f"any{position + 1}", topic.captures)
            parameters[name] = {"description": "One level, whatever it is."}
        elif _UNFIT & set(level) or (not level and position == len(levels) - 1):
            name = _unlike(f"level{position + 1}", topic.captures)
            parameters[name] = {"description": "Always the same.", "enum": [level], "default": level}
        else:
            continue
        levels[position] = f"{{{name}}}"
    return "/".join(levels), parameters


def _unlike(name: str, others: Iterable[str]) -> str:
    while name in others:
        name += "_"
    return name


def message(
    content_type: str, payload: Schema, title: str, *, examples: Sequence[Mapping[str, Any]] = (), **more: Any
) -> dict[str, Any]:
    """Return a message object."""
    shown = {"examples": [dict(one) for one in examples]} if examples else {}
    return {"title": title, "contentType": content_type, "payload": payload, **shown, **more}

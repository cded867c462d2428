"""Messages against the AsyncAPI document: the channels of a topic, and the schemas of what may be there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import cbor2
from jsonschema import Draft7Validator

from edge_agent.docs.served import Served
from edge_agent.model.library import Loaded

_READ: dict[str, Callable[[bytes], Any]] = {
    "application/json": json.loads,
    "application/senml+json": json.loads,
    "application/vnd.aai.asyncapi+json": json.loads,
    "application/cbor": cbor2.loads,
}
_PARAMETER = re.compile(r"\{([^{}]+)\}")


def served(models: Mapping[str, Loaded]) -> dict[str, Served]:
    """Loaded models, as a document has them."""
    return {name: Served(one.predictor.card, one.predictor.sha256) for name, one in models.items()}


def at(document: Mapping[str, Any], reference: str) -> Any:
    """What a reference leads to (RFC 6901)."""
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[unquote(step).replace("~1", "/").replace("~0", "~")]
    return found


def references(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            yield from references(value)
    elif isinstance(content, list):
        for one in content:
            yield from references(one)


class Document:
    """A document that is asked about messages."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.whole = document
        self._channels = [(self._pattern(channel), channel) for channel in document["channels"].values()]
        self._validators: dict[str, Draft7Validator] = {}
        operations = document["operations"].values()
        sends = [one["channel"] for one in operations if one["action"] == "send"]
        replies = [one["reply"]["channel"] for one in operations if "reply" in one]
        self._replies = [at(document, one["$ref"]) for one in replies]
        self._sent = {id(at(document, one["$ref"])) for one in (*sends, *replies)}

    def message(self, channel: Mapping[str, Any], name: str) -> Any:
        """One of a channel's messages, wherever it stands."""
        found = channel["messages"][name]
        return at(self.whole, found["$ref"]) if "$ref" in found else found

    def channels(self, topic: str) -> list[Mapping[str, Any]]:
        return [channel for pattern, channel in self._channels if pattern is not None and pattern.fullmatch(topic)]

    def validator(self, schema: Mapping[str, Any]) -> Draft7Validator:
        """What validates by a schema with references into the document."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            self._validators[key] = Draft7Validator({**schema, "components": self.whole["components"]})
        return self._validators[key]

    def sends(self, topic: str) -> list[Mapping[str, Any]]:
        """The channels of a topic on which the node publishes."""
        return [channel for channel in self.channels(topic) if id(channel) in self._sent]

    def wrong(self, topic: str, payload: bytes, content_type: str | None = None, *, answer: bool = False) -> list[str]:
        """What is wrong with a message that the node published: nothing, if a channel has it. `answer`: to a Response Topic.

        Without a content type, it is the first of the channel's messages.
        """
        said: list[str] = []
        for channel in self._replies if answer else self.sends(topic):
            for message in self._messages(channel, content_type):
                try:
                    content = _READ.get(message["contentType"], bytes.decode)(payload)
                except ValueError as error:
                    said.append(str(error))
                    continue
                wrong = [one.message for one in self.validator(message["payload"]).iter_errors(content)]
                if not wrong:
                    return []
                said += [f"{channel['address']}: {one[:500]}" for one in wrong]
        return said or [f"no channel has it: {topic!r}, {content_type}"]

    def _messages(self, channel: Mapping[str, Any], content_type: str | None) -> list[Any]:
        found = [self.message(channel, name) for name in channel["messages"]]
        if content_type is None:
            first = found[0]["contentType"]
            return [one for one in found if one["contentType"] == first]
        return [one for one in found if one["contentType"] == content_type]

    def _pattern(self, channel: Mapping[str, Any]) -> re.Pattern[str] | None:
        address = channel["address"]
        if address is None:
            return None
        parameters = channel.get("parameters", {})

        def part(found: re.Match[str]) -> str:
            about = parameters[found[1]]
            if "enum" in about:
                return "(" + "|".join(map(re.escape, about["enum"])) + ")"
            return r"(?s:.+)" if about["description"].startswith("One or more") else "[^/]*"

        pieces = re.split(r"(\{[^{}]+\})", address)
        return re.compile("".join(_PARAMETER.sub(part, one) if one[:1] == "{" else re.escape(one) for one in pieces))

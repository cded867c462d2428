"""Messages against the AsyncAPI document: the channels of a topic, and the schemas of what may be there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft7Validator

_PARAMETER = re.compile(r"\{([^{}]+)\}")


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

    def wrong(self, topic: str, payload: bytes, content_type: str | None = None) -> list[str]:
        """What is wrong with a message: nothing, if one of the topic's channels has it; in a format that is no text, of the
        topic only.
        """
        said: list[str] = []
        channels = self.channels(topic)
        for channel in channels:
            for name in channel["messages"]:
                message = self.message(channel, name)
                if content_type is not None and message["contentType"] != content_type:
                    continue
                if message["contentType"] == "application/cbor":
                    return []
                text = message["contentType"].startswith("text/")
                try:
                    content = payload.decode() if text else json.loads(payload)
                except ValueError as error:
                    said.append(f"{name}: {error}")
                    continue
                schema = message["payload"]
                wrong = [one.message for one in self.validator(schema).iter_errors(content)]
                if not wrong:
                    return []
                said += [f"{name}: {one[:500]}" for one in wrong]
        return said or [f"no channel has the topic {topic!r} with content type {content_type}"]

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

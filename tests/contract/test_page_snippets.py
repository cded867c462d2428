"""What the page gives to copy is run: a command and Python, with texts that would break out of quotes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.console import evaluate
from tests.contract.client import Client
from tests.contract.conftest import MosquittoFactory

USER, PASSWORD = "o'neil", "s3cret"
TEXT = 'it\'s $(reboot) `x` \\ "q" ${y} %s °C 🎵'


@pytest.fixture
def snippets(mosquitto: MosquittoFactory) -> tuple[int, dict[str, str]]:
    """A broker's port, and the snippets for it: two messages, the second also with a content type."""
    broker = mosquitto(users={USER: PASSWORD})
    sent = [
        {"topic": f"t/{TEXT}", "payload": json.dumps({TEXT: TEXT}), "contentType": None},
        {"topic": "-t", "payload": "-m", "contentType": None},
    ]
    typed = [{**one, "contentType": "application/json"} for one in sent]
    asked = {
        "sent": sent,
        "typed": typed,
        "broker": {"host": broker.host, "port": broker.port, "user": USER, "tls": False},
    }
    made: dict[str, str] = evaluate(
        'import { mosquittoPub, paho } from "./src/snippets.js"; const making = { shell: mosquittoPub, python: paho };',
        """Object.fromEntries(Object.entries(making).flatMap(([name, make]) => [
            [name, make(given.sent, given.broker)], [`typed_${name}`, make(given.typed, given.broker)],
        ]))""",
        asked,
    )
    return broker.port, made


def test_they_send_what_the_page_would(snippets: tuple[int, dict[str, str]]) -> None:
    port, made = snippets
    assert PASSWORD not in json.dumps(made)
    with Client(port, username=USER, password=PASSWORD) as client:
        client.subscribe("#")
        for number, (name, snippet) in enumerate(made.items(), start=1):
            command = ["sh", "-c", snippet] if "shell" in name else [sys.executable, "-c", snippet]
            done = subprocess.run(
                command,
                env={**os.environ, "MQTT_PASSWORD": PASSWORD},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            first, second = client.messages(2 * number)[-2:]
            assert (first.topic, json.loads(first.payload)) == (f"t/{TEXT}", {TEXT: TEXT})
            assert (second.topic, second.payload) == ("-t", b"-m")
            properties: Any = second.properties
            assert getattr(properties, "ContentType", None) == ("application/json" if "typed" in name else None)

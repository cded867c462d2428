"""A model is tried from the page: against a real agent, and against one that a test plays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chromium import Chromium, Page
from edge_agent.config.models import loading
from edge_agent.docs import asyncapi
from edge_agent.page import page as page_with
from tests.brokers import HOST, free_port, running
from tests.browser.conftest import WebMosquitto, connect
from tests.browser.documents import ROUTE, document, pump, source, write
from tests.contract.agents import NODE, RunningAgent, settings
from tests.contract.client import Client
from tests.described import served

pytestmark = pytest.mark.usefixtures("built")


def open_with_own_document(chromium: Chromium, directory: Path, port: int, **sections: Any) -> Page:
    """The page with the document of the agent that the tests run."""
    own = settings(port, None, sections)
    file = directory / "page.html"
    file.write_bytes(page_with(asyncapi.write(own, served(loading(own).models()))))
    return chromium.open(file.as_uri())


def is_rejected(page: Page, **wrong: tuple[str, str]) -> None:
    """Send values that are wrong, by feature; each field then has its reason beside it, which is the second of these."""
    for name, (value, _) in wrong.items():
        page.fill(f'[data-feature="{name}"] .typed input', value)
    page.click(".send button")
    page.wait("document.querySelector('.answer[data-kind=rejection]')")
    for name, (_, reason) in wrong.items():
        assert reason in page.text(f'[data-feature="{name}"] .reason')


def test_tried_and_rejected(chromium: Chromium, broker: WebMosquitto, tmp_path: Path) -> None:
    """By the real agent: label, bars, latency; reasons beside their fields; and none of it on the route's topics."""
    page = open_with_own_document(chromium, tmp_path, broker.port)
    with RunningAgent(broker.port), Client(broker.port) as client:
        client.subscribe("music/#", "edge/+/state")
        client.wait_for_payload(f"edge/{NODE}/state", "online")
        connect(page, broker.url)
        assert "MQTT 5" in page.text("header")
        page.wait("document.querySelector('.node .badge').textContent === 'online'")
        page.click(".chip:nth-of-type(2)")
        page.click(".send button")
        page.wait("document.querySelector('.answer[data-kind=prediction]')")
        assert page.text(".verdict-title") == "Rock"
        assert [line.split("\n")[0] for line in page.text(".bars").split("%\n")] == ["Rock", "Hip-Hop"]
        assert float(page.evaluate("document.querySelector('[data-latency]').dataset.latency")) > 0

        is_rejected(
            page,
            tempo=("-5", "greater than or equal to 0"),
            energy=("loud", "valid number"),
            valence=("", "Field required"),
        )
        assert page.text('[data-feature="liveness"] .reason') == ""
        assert page.evaluate("document.querySelectorAll('[aria-invalid=true]').length") == 3

        # What is typed into the message goes as it is.
        page.fill(".message textarea", "no JSON")
        page.click(".send button")
        page.wait("document.querySelector('.verdict-reason')?.textContent.includes(\"can't be read\")")
        assert {message.topic for message in client.messages(3, "music/#")} == {"music/try/features"}
        assert page.problems == []


def test_an_answer_says_why(chromium: Chromium, broker: WebMosquitto, tmp_path: Path) -> None:
    page = open_with_own_document(chromium, tmp_path, broker.port)
    with RunningAgent(broker.port):
        connect(page, broker.url)
        page.wait("document.querySelector('.node .badge').textContent === 'online'")
        page.click(".chip:nth-of-type(2)")
        for way, found in (
            ("path", "It would be Hip-Hop with speechiness > 0.141726"),
            ("shap", "probability of Rock: 0.81"),
        ):
            page.fill(".send select", way)
            page.click(".send button")
            page.wait(f"document.querySelector('.why')?.textContent.includes({json.dumps(found)})")
        assert page.evaluate("document.querySelectorAll('.why .bars li').length") == 7
        page.fill(".send select", "")
        page.click(".send button")
        page.wait("!document.querySelector('.why')")
        assert page.problems == []


def test_a_value_for_each_topic(chromium: Chromium, broker: WebMosquitto, tmp_path: Path) -> None:
    """The route answers each change once all values are known; what counts is the answer to the last one. Reasons come one by one."""
    route = {"model": "genre", "subscribe": "home/{room}/{feature}", "publish": "genre/{room}"}
    page = open_with_own_document(chromium, tmp_path, broker.port, route=[route])
    with RunningAgent(broker.port, route=[route]):
        connect(page, broker.url)
        page.wait("document.querySelector('.node .badge').textContent === 'online'")
        assert page.evaluate("document.querySelectorAll('.message textarea').length") == 8
        for example, label in ((2, "Rock"), (1, "Hip-Hop"), (2, "Rock")):
            page.click(f".chip:nth-of-type({example})")
            page.click(".send button")
            page.wait(f"document.querySelector('.verdict-title')?.textContent === '{label}'")
        is_rejected(page, tempo=("-5", "greater than or equal to 0"), energy=("loud", "valid number"))
        assert page.problems == []


def test_answers_while_the_sliders_move(chromium: Chromium, broker: WebMosquitto, tmp_path: Path) -> None:
    page = open_with_own_document(chromium, tmp_path, broker.port)
    with RunningAgent(broker.port), Client(broker.port) as client:
        client.subscribe("edge/+/state")
        client.wait_for_payload(f"edge/{NODE}/state", "online")
        connect(page, broker.url)
        page.click(".check input")
        page.wait("document.querySelector('.verdict-title')?.textContent === 'Hip-Hop'")
        for name, value in (("danceability", "0.2"), ("speechiness", "0.03"), ("energy", "0.9"), ("tempo", "150")):
            page.fill(f'[data-feature="{name}"] input[type=range]', value)
        page.wait("document.querySelector('.verdict-title')?.textContent === 'Rock'")
        assert page.problems == []


def test_the_page_comes_from_the_broker_itself(chromium: Chromium, tmp_path: Path) -> None:
    """Mosquitto's http_dir serves it on the port where it takes WebSockets, so nothing has to be typed; the documents are those
    that the nodes keep on the broker.
    """
    (tmp_path / "www").mkdir()
    write(tmp_path / "www", None)
    with running(WebMosquitto(tmp_path, after=[f"http_dir {tmp_path / 'www'}"])) as broker:
        page = chromium.open(f"http://{HOST}:{broker.web_port}/page.html")
        with Client(broker.port) as client:
            client.publish("edge/pi-1/docs", document(pump(), ROUTE), retain=True)
            client.publish("edge/broken/docs", b"{", retain=True)
            client.publish("edge/other/docs", document(pump(), ROUTE, node="pi-1"), retain=True)
            page.click(".connect button")
            page.wait("document.querySelector('.model')")
            assert page.text(".node select") == "pi-1"
            # A newer one does not take away what somebody is filling in.
            page.fill(".typed input", "7.25")
            client.publish("edge/pi-1/docs", document(pump(version="2.0.0"), ROUTE), retain=True)
            page.wait("!document.querySelector('.newer').hidden")
            assert "7.25" in page.evaluate("document.querySelector('.message textarea').value")
            page.click(".newer")
            page.wait("document.querySelector('.model .badge').textContent === '2.0.0'")
            assert page.problems == []


def test_a_lost_connection_comes_back_with_all_that_it_had(
    chromium: Chromium, broker: WebMosquitto, tmp_path: Path
) -> None:
    page = open_with_own_document(chromium, tmp_path, broker.port)
    with RunningAgent(broker.port):
        connect(page, broker.url)
        page.click(".send button")
        page.wait("document.querySelector('.verdict-title')?.textContent === 'Hip-Hop'")
        broker.stop()
        page.wait("document.querySelector('.status').textContent === 'Connecting'")
        broker.start()
        page.wait("document.querySelector('.node .badge').textContent === 'online'")
        page.click(".chip:nth-of-type(2)")
        page.click(".send button")
        page.wait("document.querySelector('.verdict-title')?.textContent === 'Rock'")


def test_a_password_is_asked_for_and_kept_nowhere(chromium: Chromium, tmp_path: Path) -> None:
    with running(WebMosquitto(tmp_path, users={"me": "s3cret-word"})) as broker:
        page = chromium.open(write(tmp_path, None))
        page.fill(".connect input[type=url]", broker.url)
        page.click(".connect button")
        page.wait("document.querySelector('.connect .error')?.textContent.includes('asks for a user and password')")
        page.fill(".connect label:nth-of-type(2) input", "me")
        page.fill(".connect input[type=password]", "wrong")
        page.click(".connect button")
        page.wait(
            "document.querySelector('.connect .error')?.textContent === 'the broker refused this user and password'"
        )
        page.fill(".connect input[type=password]", "s3cret-word")
        page.click(".connect button")
        page.wait("document.querySelector('.status').textContent.includes('MQTT')")
        kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href]) + document.documentElement.outerHTML"
        assert "s3cret" not in page.evaluate(kept)
        # A reload forgets it.
        page.call("Page.reload")
        page.wait("document.querySelector('.connect input[type=password]')?.value === ''")


def test_a_broker_of_3_1_1(chromium: Chromium, tmp_path: Path) -> None:
    """The answer comes on the route's topic, and an answer to somebody else is not taken for it."""
    pytest.importorskip("amqtt", reason="needs the extra `demo`")
    port, web_port = free_port(), free_port()
    command = [sys.executable, "-m", "edge_agent.demo.broker", str(port), str(web_port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as broker:
        try:
            assert broker.stdout is not None
            assert "ready" in broker.stdout.readline()
            page = open_with_own_document(chromium, tmp_path, port)
            connect(page, f"ws://{HOST}:{web_port}")
            assert "MQTT 3.1.1" in page.text("header")
            assert "others read it" in page.text(".message")
            assert '"id": "page-' in page.evaluate("document.querySelector('.message textarea').value")
            assert "page-" not in page.text(".copy .code")
            with RunningAgent(port, mqtt={"protocol": "3.1.1"}):
                # The agent's state, which the page shows as well.
                page.wait("document.querySelector('.node .badge').textContent === 'online'")
                page.click(".send button")
                page.wait("document.querySelector('.answer[data-kind=prediction]')")
                assert page.text(".verdict-title") == "Hip-Hop"
                is_rejected(page, tempo=("-5", "greater than"))
            assert page.problems == []
        finally:
            broker.terminate()


ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"label": "anomaly", "score": 0.61}, "alarm"),
    ({"value": 21.712345678, "unit": "°C"}, "21.7123 °C"),
    ({"values": {"indoor": 21.7, "power": 3}}, "power"),
    ({"label": None, "uncertain": True, "confidence": 0.51}, "confidence 51.0 %, below this route's limit of 60 %"),
    ({"label": "normal", "score": 0.1, "outside": ["vibration"]}, "beyond all that the model was trained on"),
]


def test_answers_of_every_kind(chromium: Chromium, broker: WebMosquitto, tmp_path: Path) -> None:
    """Of a feature of each kind; the test plays the agent."""
    route = {**ROUTE, "min_confidence": 0.6}
    page = chromium.open(write(tmp_path, document(pump(), route)))
    connect(page, broker.url)
    page.click(".chip")
    page.fill(".level input", "hall/3")
    page.click(".send button")
    assert "one level has no /" in page.text(".level")
    page.fill(".level input", "3")
    with Client(broker.port) as client:
        client.subscribe("plant/+/raw")
        for number, (answer, shown) in enumerate(ANSWERS, start=1):
            page.click(".send button")
            message: Any = client.messages(number, "plant/3/raw")[-1]
            assert json.loads(message.payload) == {"vibration": 9.5, "valve": False, "mode": "boost"}
            reply = message.properties.ResponseTopic, message.properties.CorrelationData
            client.publish(reply[0], b'{"label": "of another"}', CorrelationData=b"else")
            client.publish(reply[0], {**answer, "model": "pump", "version": "1"}, CorrelationData=reply[1])
            page.wait(f"document.querySelector('.answer').innerText.includes({json.dumps(shown)})")
            # Seen from afar: an anomaly and an answer without a label do not look like any other one.
            tone = "bad" if answer.get("label") == "anomaly" else "warn" if answer.get("uncertain") else ""
            assert page.evaluate("document.querySelector('.answer').dataset.tone") == tone
        # Another node that takes the same topic is named; one that takes another topic is not.
        assert page.text(".message").count("shared topic") == 0
        for node, topic in (("pi-2", "plant/{place}/raw"), ("pi-3", "plant/{place}/other")):
            client.publish(
                f"edge/{node}/docs", document(pump(), {**route, "sources": [source(topic)]}, node), retain=True
            )
        page.wait("document.querySelector('.message').innerText.includes('pi-2 takes this message too')")
        page.wait("document.querySelectorAll('.node option').length === 3")
        assert "pi-3" not in page.text(".message")
    assert "vibration" in page.text(".field.outside")
    assert "of another" not in page.text()
    assert page.problems == []


def test_what_was_to_be_sent_is_sent_once_connected(chromium: Chromium, broker: WebMosquitto, tmp_path: Path) -> None:
    """As it was typed; and while the connection is made again, the button leads to no end of it."""
    page = chromium.open(write(tmp_path, document(pump(), {"publish": "out", "sources": [source("in")]})))
    page.fill(".connect input[type=url]", broker.url)
    page.fill(".message textarea", '{"typed": true}')
    assert page.text(".send button") == "Connect and send"
    with Client(broker.port) as client:
        client.subscribe("in")
        page.click(".send button")
        assert page.evaluate("document.activeElement.type") == "url"
        page.click(".connect button")
        assert bytes(client.messages(1, "in")[0].payload) == b'{"typed": true}'
    broker.stop()
    page.wait("document.querySelector('.send button').textContent === 'Reconnecting …'")
    assert page.evaluate("document.querySelector('.send button').disabled")
    page.wait("document.querySelector('.verdict-reason')?.textContent === 'the connection was lost'")
    broker.start()
    page.wait("document.querySelector('.send button').textContent === 'Send'")
    assert page.evaluate("document.querySelector('.message textarea').value") == '{"typed": true}'
    with Client(broker.port) as client:
        client.publish("edge/pi-1/state", b"offline", retain=True)
        page.click(".send button")
        page.wait("document.querySelector('.verdict-reason')?.textContent === 'pi-1 is offline'")

"""Discovery messages for Home Assistant: what is in them, and that nothing from outside breaks them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.assembly import check_routes
from edge_agent.config.load import load
from edge_agent.contract.card import ModelCard, Quantity
from edge_agent.contract.messages import validator
from edge_agent.contract.progress import ModelState
from edge_agent.contract.templates import Template
from edge_agent.errors import SettingsError
from edge_agent.model.library import Predictor
from edge_agent.routing.routes import Route
from edge_agent.serving import home_assistant
from edge_agent.serving.home_assistant import About, kind_of
from edge_agent.testing import ROUTE, FakeModel, make_card
from tests.unit.test_settings import refusal, write

ABOUT = About("pi-1", "homeassistant", "1.2.3", (("genre", "1.0.0"),), 30.0, 3600.0)
#: What Home Assistant takes at the root of a device's message; over anything else it refuses all of it.
ROOT = {"device", "origin", "components", "state_topic", "command_topic", "availability", "qos", "encoding"}
TOPIC = "music/kitchen/genre"


def card_of(**changes: Any) -> ModelCard:
    return make_card().model_copy(update=changes)


def sensor(card: ModelCard | None = None, route: Route = ROUTE, topic: str = TOPIC, about: About = ABOUT) -> Any:
    said = home_assistant.sensor(about, kind_of(route, card or make_card()), topic)
    assert said.retain
    assert said.qos == 1
    assert said.topic == home_assistant.announced_topic(about, topic)
    return json.loads(said.payload)


def test_a_label_is_an_enum_with_its_options_and_a_confidence() -> None:
    told = sensor()
    assert told["state_topic"] == TOPIC
    label, confidence = told["components"]["label"], told["components"]["confidence"]
    assert (label["platform"], label["device_class"], label["options"]) == ("sensor", "enum", ["Hip-Hop", "Rock"])
    assert label["name"] is None
    assert label["default_entity_id"] == "sensor.kitchen_genre"
    assert "probabilities" in label["json_attributes_template"]
    assert confidence["entity_category"] == "diagnostic"
    assert confidence["unit_of_measurement"] == "%"
    assert {label["expire_after"], confidence["expire_after"]} == {3600}
    assert told["availability"][0]["topic"] == "edge/pi-1/state"
    assert told["device"]["name"] == "kitchen genre"
    assert told["device"]["via_device"] == "edge-agent-pi-1"


def test_a_model_without_probabilities_has_no_confidence() -> None:
    test = make_card().self_test.model_copy(update={"probabilities": ()})
    assert list(sensor(card_of(self_test=test))["components"]) == ["label"]


def test_what_never_expires_says_nothing_of_it() -> None:
    assert "expire_after" not in sensor(about=ABOUT._replace(expire_after=0.0))["components"]["label"]


def test_a_number_has_its_unit_and_several_are_several() -> None:
    one = card_of(task="regression", labels=(), outputs=(Quantity(name="temperature", unit="°C"),))
    value = sensor(one)["components"]["value"]
    assert (value["unit_of_measurement"], value["state_class"], value["name"]) == ("°C", "measurement", None)
    assert "options" not in value
    several = card_of(
        task="regression", labels=(), outputs=(Quantity(name="x y", unit=""), Quantity(name="x_y", unit="m"))
    )
    components = sensor(several)["components"]
    assert [one["name"] for one in components.values()] == ["x y", "x_y"]
    assert [one.get("unit_of_measurement") for one in components.values()] == [None, "m"]


def test_an_anomaly_is_a_problem_with_a_score() -> None:
    components = sensor(card_of(task="anomaly", labels=(), threshold=0.5))["components"]
    assert (components["anomaly"]["platform"], components["anomaly"]["device_class"]) == ("binary_sensor", "problem")
    assert components["score"]["entity_category"] == "diagnostic"


def test_two_labels_are_a_binary_sensor_where_the_route_says_so() -> None:
    components = sensor(route=ROUTE._replace(binary_sensor="Rock"))["components"]
    assert components["binary"]["platform"] == "binary_sensor"
    assert '"Rock"' in components["binary"]["value_template"]
    assert list(components) == ["binary", "confidence"]


def test_the_node_tells_state_models_rates_and_versions() -> None:
    said = home_assistant.node(ABOUT)
    told = json.loads(said.payload)
    assert said.topic == "homeassistant/device/edge-agent-pi-1/config"
    assert set(told) <= ROOT
    assert set(told["components"]) == {"state", "models", "rate", "rejections", "update-genre", "drift"}
    assert "availability" not in told["components"]["state"]  # it says itself that the node is offline
    assert told["components"]["update-genre"]["state_topic"] == "edge/pi-1/model/genre"
    assert told["components"]["rate"]["expire_after"] == 90
    warm = json.loads(home_assistant.node(ABOUT._replace(has_temperature=True)).payload)
    assert warm["components"]["temperature"]["device_class"] == "temperature"
    drift = json.loads(home_assistant.node(ABOUT._replace(has_drift=True)).payload)["components"]["drift"]
    assert (drift["platform"], drift["device_class"], drift["state_topic"]) == (
        "binary_sensor",
        "problem",
        "edge/pi-1/drift",
    )


def test_a_person_installs_by_a_button_where_the_node_waits_for_one() -> None:
    by_itself = json.loads(home_assistant.node(ABOUT).payload)["components"]["update-genre"]
    assert not {"command_topic", "payload_install"} & set(by_itself)
    by_hand = json.loads(home_assistant.node(ABOUT._replace(asks_before_installing=True)).payload)
    asked = by_hand["components"]["update-genre"]
    assert (asked["command_topic"], asked["payload_install"]) == ("edge/pi-1/request/install", "genre")


def test_a_model_that_is_gone_takes_its_entity_with_it() -> None:
    told = json.loads(home_assistant.node(ABOUT, ["mood"]).payload)
    assert told["components"]["update-mood"] == {"platform": "update"}


def test_a_model_state_is_as_in_the_contract() -> None:
    said = home_assistant.model_state(ABOUT, "genre", "1.0.0")
    told: ModelState = validator(ModelState).validate_json(said.payload, strict=True)
    assert told["installed_version"] == told["latest_version"] == "1.0.0"
    assert said.topic == "edge/pi-1/model/genre"


def test_unlike_topics_have_unlike_ids() -> None:
    topics = ["a/b", "a-b", "a b", "a/b/", "A/b", "a/+b", "ä/b", "a/\u00e4", "a/a\u0308"]
    ids = {home_assistant.announced_topic(ABOUT, topic) for topic in topics}
    assert len(ids) == len(topics)
    nodes = {home_assistant.node(ABOUT._replace(node=node)).topic for node in ("a.b", "a-b", "a_b")}
    assert len(nodes) == 3


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (("None", "Rock"), ["None (label)", "Rock"]),
        (("unknown", "unavailable"), ["unknown (label)", "unavailable (label)"]),
        ((" Rock", "Rock", "Rock "), ["Rock", "Rock (2)", "Rock (3)"]),
        (("x" * 300, "x" * 301), ["x" * 239 + "…", "x" * 239 + "… (2)"]),
    ],
)
def test_labels_that_can_not_be_a_state_are_shown_otherwise(labels: tuple[str, ...], options: list[str]) -> None:
    label = sensor(card_of(labels=labels))["components"]["label"]
    assert label["options"] == options
    assert ".get(a.label, a.label)" in label["value_template"]


HOSTILE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/+#"), min_size=1, max_size=40)


@given(HOSTILE, HOSTILE, st.lists(HOSTILE, min_size=2, max_size=4, unique=True))
def test_whatever_comes_from_outside_the_message_is_valid(level: str, node: str, labels: list[str]) -> None:
    route = ROUTE._replace(publish=Template("music/{sensor}/genre"), binary_sensor=labels[0])
    for one in (route, ROUTE):
        card = card_of(labels=tuple(labels))
        told = sensor(card, one, f"music/{level}/genre", ABOUT._replace(node=node))
        assert set(told) <= ROOT
        (identifier,) = told["device"]["identifiers"]
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,200}", identifier)
        for key, component in told["components"].items():
            assert re.fullmatch(r"[a-zA-Z0-9_-]+", key)  # Home Assistant splits them at blanks
            assert re.fullmatch(r"(binary_)?sensor\.[a-z0-9_]+", component["default_entity_id"])
            assert "object_id" not in component
            assert ("options" in component) == (component.get("device_class") == "enum")
            template = component["value_template"]
            assert template.count("{{") == template.count("}}") == 1
            assert template.count("{%") == template.count("%}") == 1
        options = told["components"].get("label", {}).get("options", ["x"])
        assert len(set(options)) == len(options)
        assert all(option and option == option.strip() and len(option) <= 255 for option in options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[home_assistant]\nprefix = "a/+"', "home_assistant.prefix"),
        ('[home_assistant]\nprefix = "a/"', "without a slash at the end"),
        ('[home_assistant]\nprefix = ""', "home_assistant.prefix"),
        (
            '[home_assistant]\nenabled = true\n[[route]]\nsubscribe = "{x}/status"\npublish = "out/{x}/y"',
            "would take what is for Home Assistant on 'homeassistant/status'",
        ),
        (
            '[home_assistant]\nenabled = true\n[[route]]\nsubscribe = "homeassistant/{x...}"\npublish = "out/{x...}"',
            "'homeassistant/status'",
        ),
        (
            '[home_assistant]\nenabled = true\n[[route]]\nsubscribe = "in/{x}"\npublish = "edge/{x}/home_assistant"',
            "could be one of this node's own topics",
        ),
    ],
)
def test_settings_that_are_refused(text: str, words: str, tmp_path: Path) -> None:
    assert words in refusal(tmp_path, text)


def test_what_home_assistant_uses_is_free_while_it_is_off(tmp_path: Path) -> None:
    load(write(tmp_path, '[[route]]\nsubscribe = "{x}/status"\npublish = "out/{x}/y"')).routes()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("Hip-Hop", "Rock"), "has the labels 'Hip-Hop', 'Rock'; it takes a model with two labels, and one of them"),
        (("Jazz", "Rock", "Folk"), "has the labels 'Jazz', 'Rock', 'Folk'"),
    ],
)
def test_a_binary_sensor_takes_one_of_two_labels(labels: tuple[str, ...], words: str) -> None:
    model = cast("Predictor", FakeModel(card_of(labels=labels)))
    with pytest.raises(SettingsError, match=f"^route 1: binary_sensor: model 'genre' {words}"):
        check_routes([ROUTE._replace(binary_sensor="Jazz")], {"genre": model})

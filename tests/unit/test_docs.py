"""The AsyncAPI document of a configuration and its model cards: what it says, and that it hangs together."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings

from edge_agent.cli.main import cli
from edge_agent.config.settings import Settings
from edge_agent.contract.card import Feature, ModelCard
from edge_agent.contract.messages import ErrorCode
from edge_agent.docs import asyncapi
from edge_agent.docs.keys import Keys, ref
from edge_agent.docs.served import Served
from edge_agent.serving.requests import VERBS
from edge_agent.testing import make_card
from tests.unit.configurations import configurations

pytest.importorskip("jsonschema")

from tests.described import Document, at, references

MODELS = {"genre": Served(make_card(("loudness", "tempo")), "0" * 64)}
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def described(models: dict[str, Served] = MODELS, **sections: Any) -> dict[str, Any]:
    """The document as others read it."""
    chosen = Settings(**{"node": {"id": "pi-1"}, **sections})
    read: dict[str, Any] = json.loads(asyncapi.write(chosen, models))
    return read


def features_of(document: dict[str, Any], channel: str = "features-1", name: str = "json") -> Any:
    """The payload's schema of a channel's message, its references resolved for a look."""
    found = at(document, document["channels"][channel]["messages"][name]["$ref"])["payload"]
    while "$ref" in found:
        found = at(document, found["$ref"])
    return found


def test_the_same_settings_give_the_same_bytes() -> None:
    assert asyncapi.write(Settings(), MODELS) == asyncapi.write(Settings(), MODELS)


def test_there_is_a_channel_for_all_that_comes_and_goes() -> None:
    found = described()["channels"]
    assert {key: one["address"] for key, one in found.items()} == {
        "features-1": "music/{sensor}/features",
        "answers-1": "music/{sensor}/genre",
        "errors-1": "music/{sensor}/genre/error",
        "replies-1": None,
        "state": "edge/pi-1/state",
        "info": "edge/pi-1/info",
        "health": "edge/pi-1/health",
        "drift": "edge/pi-1/drift",
        "docs": "edge/pi-1/docs",
        **{f"request-{verb}": f"edge/pi-1/request/{verb}" for verb in VERBS},
        **{f"response-{verb}": f"edge/pi-1/response/{verb}" for verb in VERBS},
        "request-other": "edge/pi-1/request/{verb}",
        "response-other": "edge/pi-1/response/{verb}",
    }
    assert found["features-1"]["parameters"].keys() == {"sensor"}


def test_a_question_may_say_where_its_answer_goes() -> None:
    document = described()
    reply = document["operations"]["receive-features-1"]["reply"]
    assert reply["address"]["location"] == "$message.header#/responseTopic"
    assert at(document, reply["channel"]["$ref"])["address"] is None
    assert "reply" not in described(mqtt={"protocol": "3.1.1"})["operations"]["receive-features-1"]
    assert "reply" not in described(mqtt={"response_topics": []})["operations"]["receive-features-1"]


def test_values_that_come_one_by_one_have_no_reply_of_their_own() -> None:
    document = described(route=[{"subscribe": "home/{room}/{feature}", "publish": "out/{room}"}])
    assert "reply" not in document["operations"]["receive-features-1"]
    assert document["channels"]["features-1"]["parameters"]["feature"]["enum"] == ["loudness", "tempo"]


def test_the_server_has_its_will_and_how_one_logs_in() -> None:
    document = described(mqtt={"host": "broker.lan", "username": "me", "tls": {}})
    server = document["servers"]["broker"]
    assert (server["host"], server["protocol"], server["protocolVersion"]) == ("broker.lan:8883", "mqtts", "5.0")
    assert server["bindings"]["mqtt"]["lastWill"] == {
        "topic": "edge/pi-1/state",
        "message": "offline",
        "qos": 1,
        "retain": True,
    }
    (scheme,) = server["security"]
    assert at(document, scheme["$ref"])["type"] == "userPassword"


def test_a_token_in_the_path_of_the_websocket_is_told_to_nobody() -> None:
    document = described(mqtt={"transport": "websockets", "path": "/mqtt?x-token=hush&to=/pi"})
    assert document["servers"]["broker"]["pathname"] == "/mqtt"
    assert "hush" not in json.dumps(document)


def test_features_have_what_the_card_says() -> None:
    schemas = described()["components"]["schemas"]
    loudness = schemas["genre.loudness"]
    assert (loudness["minimum"], loudness["maximum"]) == (0.0, 1.0)
    assert loudness["x-quantiles"] == [[level, level] for level in QUANTILES]
    assert schemas["genre.answer"]["properties"]["label"] == {"enum": ["Hip-Hop", "Rock"]}


def test_each_code_of_a_rejection_is_there() -> None:
    assert described()["components"]["schemas"]["ErrorCode"]["enum"] == [*ErrorCode]


def test_fields_lead_into_the_sensors_own_document() -> None:
    fields = {"loudness": "audio.level", "tempo": {"at": "bpm", "scale": 0.5, "offset": 10.0}}
    found = features_of(described(route=[{"fields": fields}]))["anyOf"][0]
    document = described(route=[{"fields": fields}])
    row = at(document, found["$ref"])
    assert row["properties"]["audio"]["properties"]["level"] == {"$ref": "#/components/schemas/genre.loudness"}
    assert (row["properties"]["bpm"]["minimum"], row["properties"]["bpm"]["maximum"]) == (-20.0, -18.0)
    assert row["required"] == ["audio", "bpm"]
    (route,) = document["x-edge-agent"]["routes"]
    assert route["sources"][0]["fields"] == {
        "loudness": "audio.level",
        "tempo": {"at": "bpm", "scale": 0.5, "offset": 10.0},
    }


def test_kinds_and_missing_values() -> None:
    card = make_card()
    columns = (
        Feature(name="door", kind="boolean", quantiles=QUANTILES, example=1.0),
        Feature(name="mode", kind="category", categories=("eco", "7"), quantiles=[0.0] * 8 + [1.0], example=0.0),
        Feature(name="flow", missing=True, quantiles=QUANTILES, example=0.5),
    )
    test = card.self_test.model_copy(update={"rows": ((0.0, 0.0, 0.0),)})
    card = card.model_copy(update={"features": columns, "self_test": test})
    document = described({"genre": Served(ModelCard.model_validate(card.model_dump()), "0" * 64)})
    valid = Document(document).validator({"$ref": "#/components/schemas/genre.row"}).is_valid
    assert valid({"door": "OPEN", "mode": "eco", "flow": None})
    assert valid({"door": 1, "mode": 7})
    assert valid({"door": False, "mode": "7", "flow": "unavailable"})
    assert not valid({"door": 2, "mode": "eco"})
    assert not valid({"door": True, "mode": "away"})
    assert not valid({"mode": "eco"})


def test_the_extension_has_what_a_page_needs() -> None:
    found = described()["x-edge-agent"]
    assert (found["node"], found["protocol"]) == ("pi-1", "auto")
    (model,), (route,) = found["models"], found["routes"]
    assert [feature["name"] for feature in model["features"]] == ["loudness", "tempo"]
    assert route["model"] == model["name"] == "genre"
    assert route["sources"] == [
        {
            "subscribe": "music/{sensor}/features",
            "parameters": ["sensor"],
            "sensor": {},
            "fields": {},
            "form": "object",
            "formats": route["sources"][0]["formats"],
        }
    ]


def test_without_it_on_the_broker_it_does_not_say_so() -> None:
    assert "docs" not in described(docs={"publish": False})["channels"]


def test_models_of_one_name_stay_apart() -> None:
    models = {"genre": MODELS["genre"], "/x/genre.onnx": Served(make_card(("other",)), "1" * 64)}
    routes = [{}, {"model": "/x/genre.onnx", "subscribe": "b/{sensor}", "publish": "c/{sensor}"}]
    document = described(models, route=routes)
    assert {"genre.loudness", "genre.other", "genre.answer"} <= document["components"]["schemas"].keys()
    assert b"onnx" not in json.dumps(document["channels"]).encode()


def test_a_message_that_is_not_as_described_is_seen() -> None:
    """The test of what the contract tests look with."""
    document = Document(described(route=[{"publish": "out/{sensor}"}]))
    good = {"label": "Rock", "confidence": 0.7, "probabilities": {"Rock": 0.7, "Hip-Hop": 0.3}}
    good |= {"model": "genre", "version": "1.0.0"}
    assert document.wrong("out/kitchen", json.dumps(good).encode(), "application/json") == []
    assert document.wrong("out/kitchen", json.dumps([good]).encode()) == []
    for wrong in ({"label": "Jazz"}, {"confidence": 1.5}, {"label": None}, {"model": "other"}, {"outside": ["x"]}):
        assert document.wrong("out/kitchen", json.dumps({**good, **wrong}).encode()), wrong
    assert document.wrong("out/kitchen", b"{")
    assert document.wrong("out/kitchen", json.dumps(good).encode(), "application/xml")
    assert document.wrong("edge/pi-1/state", b"asleep")
    assert document.wrong("edge/pi-1/state", b"online") == []
    assert not document.sends("in/kitchen")


# -- names from outside


def test_references_are_escaped() -> None:
    assert ref("a/b", "~1", "ü %") == {"$ref": "#/a~1b/~01/%C3%BC%20%25"}
    document = {"a/b": {"~1": {"ü %": 1}}}
    assert at(document, ref("a/b", "~1", "ü %")["$ref"]) == 1


def test_keys_are_unlike_whatever_the_names() -> None:
    keys = Keys()
    made = [keys.make(name) for name in ("a/b", "a b", "A-B", "/", "#", "", "a-b-2")]
    assert made == ["a-b", "a-b-2", "A-B-3", "x", "x-2", "x-3", "a-b-2-2"]


@settings(max_examples=40)
@given(configurations())
def test_any_configuration_has_a_sound_document(one: tuple[Settings, dict[str, Served]]) -> None:
    written = asyncapi.write(*one)
    assert b"SECRET" not in written
    assert b"/a/file" not in written
    document = json.loads(written)
    for reference in references({key: document[key] for key in ("channels", "operations", "components")}):
        assert reference.startswith("#/")
        at(document, reference)
    for place in (document["channels"], document["operations"], *document["components"].values()):
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+", key) for key in place)
    checks = Document(document)
    for channel in document["channels"].values():
        for name in channel["messages"]:
            message = checks.message(channel, name)
            validator = checks.validator(message["payload"])
            validator.check_schema(validator.schema)
            for example in message.get("examples", ()):
                assert [one.message for one in validator.iter_errors(example["payload"])] == []


def test_the_command_writes_it() -> None:
    result = CliRunner().invoke(cli, ["docs", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["asyncapi"] == "3.0.0"

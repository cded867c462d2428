"""A new model is tried on live messages by the real agent: it stays when it is as good, and goes back by itself when it is not."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")

from edge_agent.contract import topics
from edge_agent.contract.manifest import model_file, pieces
from edge_agent.serving.contest import place_of
from edge_agent.testing import make_card
from tests import bad_models
from tests.brokers import Mosquitto
from tests.channel import MANIFEST
from tests.contract.agents import STATE
from tests.contract.client import Client
from tests.contract.updating import MODEL, UpdatingAgent
from tests.patience import DEADLINE
from tests.trusted import ANN, CHANNEL, ISSUED, envelope, manifest

SENSORS: Final = [f"s{number}" for number in range(10)]
NEW: Final = "1.1.0"
#: Long enough for whatever the figures find; a phase that has to end takes a second.
LONG: Final = 600


class Trial:
    """A node that serves an honest model, and sensors that send to it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._draw = random.Random(5)
        self._sent = 0

    def offer(self, content: bytes, **said: Any) -> None:
        """Publish a release of a model."""
        file = model_file(make_card().model_copy(update={"version": NEW}), content)
        for number, piece in enumerate(pieces(content)):
            self._client.publish(topics.blob(CHANNEL, file.sha256, number), piece, retain=True)
        offered = manifest(file, serial=ISSUED + 1, **said)
        self._client.publish(MANIFEST, envelope(offered, ANN), retain=True)

    def send(self) -> None:
        """Have all sensors send once, and wait for their answers."""
        for sensor in SENSORS:
            content = {"loudness": round(self._draw.random(), 3), "id": self._sent}
            self._client.publish(f"music/{sensor}/features", json.dumps(content), wait=False)
            self._sent += 1
        self._client.messages(self._sent, "music/#")

    def send_until(self, wanted: str) -> dict[str, Any]:
        """Have all sensors send until the model is in a state; return what is said of it."""
        ends = time.monotonic() + DEADLINE
        while not (said := [one for one in self.states if one["state"] == wanted]):
            assert time.monotonic() < ends, self.states
            self.send()
        return said[0]

    @property
    def states(self) -> list[dict[str, Any]]:
        """What was said of the model since the offer."""
        said = [json.loads(message.payload) for message in self._client.seen(MODEL) if message.payload]
        return [one for one in said if one["latest_version"] == NEW]

    def answers(self) -> list[dict[str, Any]]:
        """What was answered, with the `sensor`."""
        found = [(one.topic.split("/")[1], json.loads(one.payload)) for one in self._client.seen("music/#")]
        return [{**answer, "sensor": sensor} for sensor, answer in found]


@pytest.fixture
def trial(server: Mosquitto, stack: ExitStack, tmp_path: Path) -> Iterator[Trial]:
    models = tmp_path / "models"
    models.mkdir()
    (models / "genre.onnx").write_bytes(bad_models.honest())
    with Client(server.port) as client:
        client.subscribe(STATE, MODEL, "music/+/genre/#")
        stack.enter_context(UpdatingAgent(server.port, models))
        client.wait_for_payload(STATE, "online")
        yield Trial(client)


def test_a_candidate_that_is_as_good_passes_all_phases(trial: Trial) -> None:
    """The sensors change over by their place, once each, and nothing is lost on the way."""
    trial.send()
    trial.offer(bad_models.honest(NEW), soak_seconds=1, min_agreement=0.98, canary=0.5)
    trial.send_until("committed")
    trial.send_until("idle")
    trial.send()
    seen = dict.fromkeys(one["state"] for one in trial.states)
    assert [one for one in seen if one in {"shadow", "canary", "committed"}] == ["shadow", "canary", "committed"]
    answers = trial.answers()
    changed: dict[bool, list[int]] = {True: [], False: []}
    for sensor in SENSORS:
        mine = [answer for answer in answers if answer["sensor"] == sensor]
        assert [answer["id"] for answer in mine] == sorted({answer["id"] for answer in mine})
        versions = [answer["version"] for answer in mine]
        assert versions == sorted(versions)
        assert {versions[0], versions[-1]} == {"1.0.0", NEW}
        changed[place_of(f"music/{sensor}/features") < 0.5].append(versions.index(NEW))
    # Both are in use on some of them for a time, unless the machine was so busy that none of them sent meanwhile.
    assert max(changed[True]) <= min(changed[False])
    assert not any("error" in answer for answer in answers)


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (bad_models.differing, "it agrees with the model before on"),
        (bad_models.raising, "it fails on"),
        (bad_models.nan, "it fails on"),
        (bad_models.slow, "and max_slower is 10 times"),
    ],
)
def test_one_that_is_worse_is_found_before_it_answers_anything(
    trial: Trial, candidate: Callable[[str], bytes], why: str
) -> None:
    trial.offer(candidate(NEW), soak_seconds=LONG, min_agreement=0.98, max_slower=10, canary=0.5)
    said = trial.send_until("rolled_back")
    assert why in said["reason"]
    assert said["installed_version"] == "1.0.0"
    assert {answer["version"] for answer in trial.answers()} == {"1.0.0"}
    assert not any("error" in answer for answer in trial.answers())


def test_one_that_fails_where_it_serves_goes_back_to_the_one_before(trial: Trial) -> None:
    trial.offer(bad_models.raising(NEW), soak_seconds=LONG)
    said = trial.send_until("rolled_back")
    assert "it fails on" in said["reason"]
    assert (said["installed_version"], said["latest_version"]) == ("1.0.0", NEW)
    failed = [answer for answer in trial.answers() if "error" in answer]
    assert {answer["error"] for answer in failed} <= {"inference_failed"}
    for _ in range(5):
        trial.send()
    last = trial.answers()[-5 * len(SENSORS) :]
    assert {answer["version"] for answer in last} == {"1.0.0"}
    assert not any("error" in answer for answer in last)


def test_one_that_fails_after_a_restart_without_its_channel_goes_back_and_says_so(
    server: Mosquitto, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "genre.onnx").write_bytes(bad_models.honest())
    with Client(server.port) as client:
        client.subscribe(STATE, MODEL, "music/+/genre/#")
        trial = Trial(client)
        with UpdatingAgent(server.port, models):
            client.wait_for_payload(STATE, "online")
            trial.offer(bad_models.raising(NEW), soak_seconds=LONG)
            client.wait_for(lambda one: one.topic == MODEL and b'"state":"committed"' in one.payload)
        client.forget()
        with UpdatingAgent(server.port, models, update={"channel": ""}):
            said = trial.send_until("rolled_back")
            assert "it fails on" in said["reason"]
            assert (said["installed_version"], said["channel"]) == ("1.0.0", "")
            trial.send()
        assert trial.answers()[-1]["version"] == "1.0.0"

"""What a person sees in Home Assistant: its core, from PyPI, on a real broker with a real agent.

One house for all of them, because a core takes seconds to begin; each test has its own rooms.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.brokers import Mosquitto, running
from tests.channel import Channel
from tests.contract.client import Client
from tests.e2e.tracks import HIP_HOP, ROCK
from tests.home_assistant.house import PYTHON, ROOT, Agent, HomeAssistant
from tests.requirements import require_mosquitto
from tests.training import train, write_room
from tests.versions import version

pytestmark = [
    pytest.mark.home_assistant,
    pytest.mark.skipif(not PYTHON.exists(), reason="Home Assistant is not installed: scripts/test --home-assistant"),
]

ROUTES: Final = """
[[route]]
[[route]]
subscribe = "sure/{sensor}/features"
publish = "sure/{sensor}/genre"
min_confidence = 0.6
[[route]]
subscribe = "rock/{sensor}/features"
publish = "rock/{sensor}/genre"
binary_sensor = "Rock"
[[route]]
model = "indoor"
subscribe = "room/{sensor}/features"
publish = "room/{sensor}/indoor"
[[route]]
model = "both"
subscribe = "both/{sensor}/features"
publish = "both/{sensor}/answer"
[[route]]
model = "odd"
subscribe = "odd/{sensor}/features"
publish = "odd/{sensor}/answer"
[[route]]
model = "flower"
subscribe = "garden/{sensor}/features"
publish = "garden/{sensor}/species"
retain = true
"""

#: A person who presses the button of the update entity.
PRESSED: Final = "a/person/presses"
PRESSES: Final = {
    "alias": "Press",
    "triggers": [{"trigger": "mqtt", "topic": PRESSED}],
    "actions": [{"action": "update.install", "target": {"entity_id": "update.pi_1_model_genre"}}],
}


def train_models(directory: Path) -> None:
    """Models that answer a number, several, and anomalies; and one of two species, later of three."""
    room = write_room(directory / "room.csv")
    train(room, directory / "indoor.onnx", "--target", "indoor", "--unit", "°C", "--drop", "power")
    train(room, directory / "both.onnx", "--target", "indoor", "--target", "power", "--estimator", "forest")
    train(room, directory / "odd.onnx", "--task", "anomaly")
    iris = ROOT / "docs" / "examples" / "iris.csv"
    two = directory / "two.csv"
    two.write_text("".join(line for line in iris.read_text().splitlines(keepends=True) if "virginica" not in line))
    train(two, directory / "flower.onnx", "--target", "species", "--name", "flower")
    (directory / "later").mkdir()
    train(iris, directory / "later" / "flower.onnx", "--target", "species", "--name", "flower")


class House:
    """A broker, an agent and Home Assistant, which can be started again."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.broker = stack.enter_context(running(Mosquitto(directory / "broker")))
        self.agent = Agent(directory / "agent", self.broker.port)
        train_models(self.agent.directory)
        self.agent.write(ROUTES)
        self.agent.start()
        stack.callback(self.agent.stop)
        self.client = stack.enter_context(Client(self.broker.port))
        self.directory = directory / "home-assistant"
        self.directory.mkdir()
        (self.directory / "configuration.yaml").write_text(yaml.safe_dump({"automation": [automation(), PRESSES]}))
        self.core = HomeAssistant(self.directory, self.broker.port)
        self.core.__enter__()
        stack.callback(self.end)

    def end(self) -> None:
        self.core.end()

    def core_again(self) -> None:
        """End Home Assistant, and start it anew."""
        self.core.end()
        self.core = HomeAssistant(self.directory, self.broker.port)
        self.core.__enter__()

    def sends(self, topic: str, features: object) -> Any:
        """Return what sends these."""
        return lambda: self.client.publish(topic, features)


def automation() -> Any:
    """The automation of the page."""
    page = (ROOT / "docs" / "home-assistant.md").read_text()
    return yaml.safe_load(re.search(r"```yaml\n(alias:.*?)```", page, re.DOTALL)[1])  # type: ignore[index]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    require_mosquitto()
    with ExitStack() as stack:
        yield House(tmp_path_factory.mktemp("house"), stack)


def test_the_node_has_its_entities(house: House) -> None:
    core = house.core
    core.sees("sensor.pi_1_state", "online")
    core.sees("sensor.pi_1_rejections", "0")
    core.wait(lambda: core.state("sensor.pi_1_messages") not in {None, "unavailable", "unknown"}, "the rate")
    core.wait(lambda: "genre 1.0.0" in (core.state("sensor.pi_1_models") or ""), "the models")
    core.shows("sensor.pi_1_models", "versions", dict.fromkeys(("genre", "indoor", "both", "odd", "flower"), "1.0.0"))
    core.sees("update.pi_1_model_genre", "off")
    core.shows("update.pi_1_model_genre", "installed_version", "1.0.0")
    core.shows("update.pi_1_model_genre", "latest_version", "1.0.0")


def test_a_label_is_followed_with_its_confidence_and_probabilities(house: House) -> None:
    core = house.core
    core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))
    core.shows("sensor.kitchen_genre", "options", ["Hip-Hop", "Rock"])
    core.shows("sensor.kitchen_genre", "device_class", "enum")
    core.sees("sensor.kitchen_genre_confidence", "97.3", house.sends("music/kitchen/features", ROCK))
    core.sees("sensor.kitchen_genre", "Hip-Hop", house.sends("music/kitchen/features", HIP_HOP))
    core.sees("sensor.kitchen_genre_confidence", "51.7")
    rounded = {"Hip-Hop": pytest.approx(0.517, abs=0.001), "Rock": pytest.approx(0.483, abs=0.001)}
    core.shows("sensor.kitchen_genre", "probabilities", rounded)


def test_of_a_batch_the_last_answer_counts(house: House) -> None:
    batch = [HIP_HOP, ROCK, {"tempo": "no row at all"}]
    house.core.sees("sensor.hall_genre", "Rock", house.sends("music/hall/features", batch))


def test_an_answer_that_is_not_sure_is_unknown_and_not_the_last_label(house: House) -> None:
    core = house.core
    core.sees("sensor.study_genre", "Rock", house.sends("sure/study/features", ROCK))
    core.sees("sensor.study_genre", "unknown", house.sends("sure/study/features", HIP_HOP))
    core.shows("sensor.study_genre", "uncertain", True)
    core.sees("sensor.study_genre", "Rock", house.sends("sure/study/features", ROCK))


def test_two_labels_are_on_and_off(house: House) -> None:
    core = house.core
    core.sees("binary_sensor.attic_genre", "on", house.sends("rock/attic/features", ROCK))
    core.sees("binary_sensor.attic_genre", "off", house.sends("rock/attic/features", HIP_HOP))


def test_numbers_and_anomalies(house: House) -> None:
    core, room = house.core, {"outdoor": 10.0, "hour": 12}
    core.sees("sensor.bath_indoor", pytest.approx(19.5, abs=0.5), house.sends("room/bath/features", room))
    core.shows("sensor.bath_indoor", "unit_of_measurement", "°C")
    core.sees("sensor.bath_both_power", pytest.approx(1400, abs=100), house.sends("both/bath/features", room))
    core.sees("sensor.bath_both_indoor", pytest.approx(19.5, abs=0.5))
    odd = {"outdoor": 500.0, "hour": 12, "indoor": -40.0, "power": 9000.0}
    core.sees("binary_sensor.bath_odd", "on", house.sends("odd/bath/features", odd))
    core.shows("binary_sensor.bath_odd", "device_class", "problem")
    core.wait(lambda: isinstance(core.number("sensor.bath_odd_score"), float), "the score")


def test_the_automation_of_the_page(house: House) -> None:
    core = house.core
    core.sees("automation.rock_in_the_kitchen", "on")
    core.sees("sensor.kitchen_genre", "Hip-Hop", house.sends("music/kitchen/features", HIP_HOP))
    core.sees("sensor.kitchen_genre_confidence", "51.7")
    core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))
    wanted = {"message": "Rock, 97.3 % sure"}
    core.wait(lambda: wanted in [one["data"] for one in core.of("service")], "the notification")


def test_other_labels_come_with_a_reload_before_their_first_answer(house: House) -> None:
    core, topic = house.core, "garden/pond/features"
    setosa = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    virginica = {"sepal_length": 6.5, "sepal_width": 3.0, "petal_length": 5.8, "petal_width": 2.2}
    core.sees("sensor.pond_flower", "setosa", house.sends(topic, setosa))
    core.shows("sensor.pond_flower", "options", ["setosa", "versicolor"])
    shutil.copy(house.agent.directory / "later" / "flower.onnx", house.agent.directory)
    house.agent.reload()
    core.sees("sensor.pond_flower", "virginica", house.sends(topic, virginica))
    core.shows("sensor.pond_flower", "options", ["setosa", "versicolor", "virginica"])


def test_a_new_version_of_a_model_is_installed_by_a_button(house: House) -> None:
    core, update = house.core, "update.pi_1_model_genre"
    Channel(house.client).push(version("1.1.0"))
    core.sees(update, "on")
    core.shows(update, "latest_version", "1.1.0")
    core.shows(update, "installed_version", "1.0.0")
    core.shows(update, "in_progress", False)
    house.client.publish(PRESSED, b"")
    core.sees(update, "off")
    core.shows(update, "installed_version", "1.1.0")
    core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))


def test_all_go_with_the_agent_and_come_back_with_it(house: House) -> None:
    core = house.core
    core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))
    house.agent.stop(signal.SIGKILL)  # so that it is the will that says so
    core.sees("sensor.kitchen_genre", "unavailable")
    core.sees("sensor.pi_1_messages", "unavailable")
    core.sees("sensor.pi_1_state", "offline")
    house.agent.start()
    core.sees("sensor.pi_1_state", "online")
    core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))


def test_they_survive_a_restart_of_home_assistant(house: House) -> None:
    setosa = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    house.core.sees("sensor.pond_flower", "setosa", house.sends("garden/pond/features", setosa))
    house.core_again()
    house.core.sees("sensor.pond_flower", "setosa")  # the answer is retained
    house.core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))
    house.core.sees("sensor.pi_1_state", "online")


def test_a_broker_that_has_forgotten_is_told_again_when_home_assistant_is_online(house: House) -> None:
    house.core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))
    house.core.end()
    house.client.subscribe("homeassistant/device/+/config")
    house.client.barrier()
    kept = {one.topic for one in house.client.seen() if one.payload}
    assert len(kept) > 5
    for topic in kept:
        house.client.publish(topic, b"", retain=True)
    house.core_again()
    house.core.sees("sensor.pi_1_state", "online")
    house.core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))


def test_an_answer_that_is_too_old_is_unavailable(house: House) -> None:
    house.agent.write(ROUTES, expire_after=2)
    house.agent.reload()
    house.core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))
    house.core.sees("sensor.kitchen_genre", "unavailable")
    assert house.core.state("sensor.pi_1_state") == "online"


def test_what_is_gone_from_the_configuration_is_gone_there(house: House) -> None:
    core = house.core
    core.sees("binary_sensor.attic_genre", "on", house.sends("rock/attic/features", ROCK))
    # The entities become others, by a reload; and others go, by a restart.
    house.agent.write(ROUTES.replace('binary_sensor = "Rock"', ""))
    house.agent.reload()
    core.sees("binary_sensor.attic_genre", None)
    core.sees("sensor.attic_genre", "Rock", house.sends("rock/attic/features", ROCK))
    house.agent.stop()
    house.agent.write("[[route]]")
    house.agent.start()
    core.sees("sensor.attic_genre", None)
    core.sees("sensor.pond_flower", None)
    core.sees("update.pi_1_model_flower", None)
    core.sees("sensor.kitchen_genre", "Rock", house.sends("music/kitchen/features", ROCK))


def test_switched_off_all_is_gone(house: House) -> None:
    house.agent.write("[[route]]", enabled=False)
    house.agent.reload()
    house.core.sees("sensor.kitchen_genre", None)
    house.core.sees("sensor.pi_1_state", None)


def test_home_assistant_had_nothing_to_complain_about(house: House) -> None:
    said = [one["text"] for one in house.core.of("warning")]
    # It was told to forget what the broker had forgotten.
    assert [one for one in said if "No device components to cleanup" not in one] == []

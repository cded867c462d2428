"""The agent as one writes it in an afternoon from the READMEs of paho, pydantic and onnxruntime.

Nothing is tuned and nothing is handicapped: every setting of the three libraries is its default.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import onnxruntime
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import TypeAdapter, ValidationError

from benchmarks.subjects.features import Features, prediction


class Model:
    """The tree in its ONNX file."""

    def __init__(self, path: str) -> None:
        self._session = onnxruntime.InferenceSession(path)
        self._input = self._session.get_inputs()[0].name
        self._labels = json.loads(self._session.get_modelmeta().custom_metadata_map["edge_agent"])["labels"]

    def predict(self, batch: list[Features]) -> list[dict[str, Any]]:
        """Return the answer to each row."""
        rows = np.array([features.row() for features in batch], dtype=np.float32)
        labels, probabilities = self._session.run(["label", "probabilities"], {self._input: rows})
        return [
            prediction(features, label, dict(zip(self._labels, (round(float(p), 6) for p in row), strict=True)))
            for features, label, row in zip(batch, labels, probabilities, strict=True)
        ]


def main() -> None:
    """Answer until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", choices=["3.1.1", "5"], required=True)
    parser.add_argument("--topic", required=True, help="features on TOPIC/{sensor}/features")
    parser.add_argument("--model", required=True)
    options = parser.parse_args()

    model = Model(options.model)
    rows = TypeAdapter(list[Features])

    def on_connect(client: mqtt.Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        client.subscribe(f"{options.topic}/+/features", qos=1)

    def on_message(client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        answer_topic = message.topic.removesuffix("features") + "genre"
        answer: Any
        try:
            if message.payload.startswith(b"["):
                answer = model.predict(rows.validate_json(message.payload))
            else:
                (answer,) = model.predict([Features.model_validate_json(message.payload)])
        except ValidationError as error:
            answer_topic += "/error"
            answer = {"error": "invalid_features", "detail": error.errors(include_url=False)}
        client.publish(answer_topic, json.dumps(answer), qos=message.qos)

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5 if options.protocol == "5" else mqtt.MQTTv311
    )
    client.on_connect = on_connect
    client.on_message = on_message
    client.connect("127.0.0.1", options.port)
    client.loop_forever()


if __name__ == "__main__":
    main()

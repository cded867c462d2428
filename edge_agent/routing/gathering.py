"""Routes that gather: `home/{sensor}/{feature}`, one value per topic.

`{feature}` stands for the level that says which value it is (`edge_agent.routing.levels`); what else a route captures names
the sensor that it belongs to, whose latest values make a row (`edge_agent.routing.sensors`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import MAX_PAYLOAD_BYTES, ErrorCode, Gathered, Message
from edge_agent.payload.features import Features, Unusable, refuse
from edge_agent.routing.levels import Level, lay_out
from edge_agent.routing.routes import FEATURE, Route
from edge_agent.routing.sensors import MAX_SENSORS, Sensor, Sensors

#: Bytes that the levels which name a sensor may have together; they come from outside, and are kept.
MAX_NAME_BYTES: Final = 256


class Due(NamedTuple):
    """What has to be answered now: a row, or why there is none. `topic` is where it came from."""

    route: Route
    sensor: Sensor
    topic: str
    content: Features | Unusable
    qos: int


class SensorLevel(NamedTuple):
    """What a topic is to a gathering route: a level of a sensor."""

    gathering: Gathering
    sensor: Sensor
    level: str


class Gathering:
    """One route that gathers. `features` are those of its model, in order."""

    def __init__(
        self,
        route: Route,
        features: Sequence[Feature],
        *,
        max_sensors: int = MAX_SENSORS,
        max_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        self.route = route
        self.ignored = 0
        names = [feature.name for feature in features]
        self.sensors = Sensors(names, max_age=route.max_age, debounce=route.debounce, limit=max_sensors)
        #: What the values depend on besides the route.
        self._kind = [(feature.name, feature.minimum, feature.maximum) for feature in features], max_sensors
        self._levels = {
            level: Level(features, places, max_bytes=max_bytes)
            for level, places in lay_out(names, route.fields).items()
        }

    def take_over(self, former: Gathering) -> bool:
        """Go on with the values of the same route before a reload; return whether they are of use, which they are with
        the same features in the same bounds. Each sensor is answered once more, for it may be by another model.
        """
        if former._kind != self._kind:
            return False
        self.sensors, self.ignored = former.sensors, former.ignored
        self.sensors.reconnected()
        return True

    def level(self, captured: Mapping[str, str]) -> SensorLevel:
        """Return what the topic is that the route captured this from."""
        return SensorLevel(self, tuple(level for name, level in captured.items() if name != FEATURE), captured[FEATURE])

    def take(self, at: SensorLevel, message: Message, now: float) -> Due | None:
        """Take a message; return what has to be answered at once, if anything."""
        level = self._levels.get(at.level)
        if level is None:
            self.ignored += 1
            return None
        outcome = self._take(at.sensor, level, message, now)
        return None if outcome is None else Due(self.route, at.sensor, message.topic, *outcome)

    def due(self, now: float, *, limit: int, ahead: float = 0.0) -> Iterator[Due]:
        """Yield up to `limit` rows that were put off until now, or until `ahead` seconds from now."""
        for sensor, reading in self.sensors.due(now, limit=limit, ahead=ahead):
            yield Due(self.route, sensor, inputs(self.route, sensor), Features(reading.values, {}), reading.qos)

    def _take(
        self, sensor: Sensor, level: Level, message: Message, now: float
    ) -> tuple[Features | Unusable, int] | None:
        if (size := sum(len(part.encode()) for part in sensor)) > MAX_NAME_BYTES:
            words = f"The levels that name the sensor have {size} bytes; at most {MAX_NAME_BYTES} are taken"
            return refuse(ErrorCode.INVALID_TOPIC, words), message.qos
        values = level.decode(message.payload, message.content_type)
        if isinstance(values, Unusable):
            self.sensors.drop(sensor, level.positions)
            return values, message.qos
        reading = self.sensors.put(
            sensor,
            list(zip(level.positions, values, strict=True)),
            now,
            qos=message.qos,
            duplicate=message.duplicate,
            retained=message.retained,
        )
        return None if reading is None else (Features(reading.values, {}), reading.qos)


def captured_by(route: Route, sensor: Sensor) -> dict[str, str]:
    """Return what a route captures of a sensor's topics, but for the feature, by name."""
    return dict(zip((name for name in route.subscribe.captures if name != FEATURE), sensor, strict=True))


def inputs(route: Route, sensor: Sensor) -> str:
    """Return the topic filter of a sensor's values."""
    return route.subscribe.render({**captured_by(route, sensor), FEATURE: "+"})


def report(gatherings: Iterable[Gathering], now: float, *, limit: int) -> Gathered:
    """Return how routes do that gather, with up to `limit` sensors that wait."""
    told: Gathered = {"sensors": 0, "complete": 0, "forgotten": 0, "ignored": 0, "waiting": []}
    for one in gatherings:
        complete, lacking = one.sensors.survey(now, limit=limit - len(told["waiting"]))
        told["sensors"] += len(one.sensors)
        told["complete"] += complete
        told["forgotten"] += one.sensors.forgotten
        told["ignored"] += one.ignored
        told["waiting"] += [
            {
                "sensor": "/".join(lack.sensor),
                "topic": inputs(one.route, lack.sensor),
                "missing": lack.missing,
                "stale": lack.stale,
            }
            for lack in lacking
        ]
    return told

"""Routes whose messages are handled one by one, most of which contain only some of a sensor's values.

The latest values of each sensor make a row (`edge_agent.routing.sensors`). What names the sensor is what the route captures of
the topic, what its source says besides, and what it captures of the payload; `{feature}` stands for the level that says
which value it is (`edge_agent.routing.levels`).
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from edge_agent.contract.card import Feature
from edge_agent.contract.messages import (
    MAX_PAYLOAD_BYTES,
    Detail,
    ErrorCode,
    Gathered,
    Message,
    UnknownLevel,
    cut_details,
    shown_topic,
)
from edge_agent.payload import formats
from edge_agent.payload.checks import ECHOED
from edge_agent.payload.features import Features, Fields, Unusable, refuse
from edge_agent.payload.places import Place
from edge_agent.payload.ranges import Ranges
from edge_agent.routing.documents import Document, Need, Part
from edge_agent.routing.levels import lay_out
from edge_agent.routing.routes import Route
from edge_agent.routing.sensors import MAX_SENSORS, Sensor, Sensors
from edge_agent.routing.sources import FEATURE, Source

#: Bytes that the names of a sensor may have together; they come from outside, and are kept.
MAX_NAME_BYTES: Final = 256
#: What stands in a topic for a name that the message should have said and did not.
UNKNOWN: Final = "unknown"
#: Sensors whose outputs are kept.
_OUTPUTS: Final = 4096
#: Most levels that map to no feature that are reported, and most characters of one.
_LEVELS_KEPT: Final = 16
_LEVEL_SHOWN: Final = 64


class Outputs(NamedTuple):
    """Where the answers for a sensor go, what they call it, if they do, and whether the broker is to keep them."""

    publish: str
    errors: str
    sensor: str | None
    retain: bool


#: An answer that is due: whose, the topic of the message, a row or the reason for a rejection, the QoS, and whether the row
#: already says what is outside of what training saw. A tuple with names takes ten times as long to make.
Due: TypeAlias = "tuple[Gathering, Sensor, str, Features | Unusable, int, bool]"


class GatheredTopic(NamedTuple):
    """What a topic is to a route that gathers: what it says of the sensor, how it is read (None for not at all), and why it
    can't be, if so.
    """

    gathering: Gathering
    sensor: Sensor
    reader: Document | None
    level: str | None
    refusal: Unusable | None = None


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
        #: No one message is the question, so answers are in the route's own format.
        self.answering = formats.find(route.content_type) or formats.JSON
        #: Of the route, which makes them anew each time: what names a sensor, and whether values are kept.
        self._named_by = route.names
        self._remembers = route.remembers
        self._outputs: dict[Sensor, Outputs] = {}
        self.ignored = 0
        #: By sensor and position: the last value that is outside of what training saw, and the reason to reject it, which shows
        #: it as it came. There are none unless the route rejects such values.
        self._outside: OrderedDict[Sensor, dict[int, tuple[float, Detail]]] = OrderedDict()
        self._most_outside = max_sensors
        self._ranges = ranges = Ranges(features, route.outside)
        #: Levels that map to no feature, with the topic of the first message on each.
        self.unknown_levels: dict[str, str] = {}
        self._names = [feature.name for feature in features]
        self.sensors = Sensors(
            self._names,
            optional=[position for position, feature in enumerate(features) if feature.missing],
            max_age=route.max_age,
            debounce=route.debounce,
            limit=max_sensors,
        )
        #: What the values depend on besides the route.
        self._kind = (
            [(one.name, one.minimum, one.maximum, one.categories, one.kind, one.missing) for one in features],
            max_sensors,
        )
        self._readers: dict[tuple[Source, str | None], Document] = {
            (source, level): Document(
                features,
                places,
                self._need(source),
                echoed=() if level is not None else _echoed(source),
                capture=route.capture,
                max_bytes=max_bytes,
                ranges=ranges,
            )
            for source in route.inputs
            for level, places in self._places(source).items()
        }

    def _need(self, source: Source) -> Need:
        if self.route.partial == "merge" or self.route.sources:
            return Need.NONE
        if FEATURE in source.subscribe.captures:
            return Need.ANY
        return Need.ALL if self.route.partial == "reject" else Need.ALL_OR_IGNORED

    def _places(self, source: Source) -> Mapping[str | None, Fields]:
        """Return the content of each level that `{feature}` stands for; the key is None without `{feature}`."""
        if FEATURE in source.subscribe.captures:
            levels: dict[str | None, Fields] = {}
            levels.update(lay_out(self._names, source.fields))
            return levels
        paths = dict(source.fields)
        there = [name for name in self._names if name in paths] if source.only_fields else self._names
        return {None: tuple((name, paths.get(name) or Place((name,))) for name in there)}

    def reconnected(self) -> None:
        """Note a new connection: answers passed to the old one may be lost."""
        self.sensors.reconnected()

    def take_over(self, former: Gathering) -> bool:
        """Go on with the values of the same route before a reload; return whether they are of use, which they are with
        the same features in the same bounds. Each sensor is answered once more, for it may be by another model.
        """
        if former._kind != self._kind:
            return False
        self.sensors, self.ignored, self.unknown_levels = former.sensors, former.ignored, former.unknown_levels
        if former._ranges.seen == self._ranges.seen:
            self._outside = former._outside
        elif self._ranges.rejects:
            self._judge_anew(former)
        self.sensors.reconnected()
        return True

    def _judge_anew(self, former: Gathering) -> None:
        """Note which values are outside of what the new model's training saw. As it came a value is known only if it already was."""
        for sensor, values in self.sensors.rows():
            before = former._outside.get(sensor, {})
            kept: dict[int, tuple[float, Detail]] = {}
            for position, value in self._ranges.among(enumerate(values)):
                reason = self._ranges.reason(position, value)
                if position in before and before[position][0] == value:
                    known = before[position][1]
                    words = former._ranges.reason(position, value)["msg"]
                    reason = {**known, "msg": known["msg"].replace(words, reason["msg"])}
                kept[position] = value, reason
            if kept:
                self._outside[sensor] = kept

    def topic_of(self, source: Source, captured: Mapping[str, str]) -> GatheredTopic:
        """Return what the topic is that the source captured this from."""
        known = {**captured, **dict(source.sensor)}
        level = captured.get(FEATURE)
        sensor = tuple(known[name] for name in self.route.inputs[0].names)
        return GatheredTopic(self, sensor, self._readers.get((source, level)), level, _too_long(sensor))

    def take(self, topic: GatheredTopic, message: Message, now: float) -> list[Due]:
        """Handle a message; return the answers that are due at once."""
        if topic.reader is None:
            self.ignored += 1
            if topic.level is not None and len(self.unknown_levels) < _LEVELS_KEPT:
                self.unknown_levels.setdefault(topic.level[:_LEVEL_SHOWN], message.topic)
            return []
        parts = topic.reader.read(message.payload, message.content_type)
        if isinstance(parts, Features):
            return self._take_row(topic, parts, message, now)
        if isinstance(parts, Unusable):
            if self.route.by_feature and self.route.capture == ():
                self.sensors.drop(topic.sensor, topic.reader.positions)
            return [(self, self._padded(topic.sensor), message.topic, parts, message.qos, False)]
        found = []
        for part in parts:
            if part.is_empty:
                self.ignored += 1
            elif (due := self._take(topic, part, message, now)) is not None:
                found.append(due)
        return found

    def due(self, now: float, *, limit: int, ahead: float = 0.0) -> Iterator[Due]:
        """Yield up to `limit` delayed rows that are due now, or within `ahead` seconds."""
        for sensor, row in self.sensors.due(now, limit=limit, ahead=ahead):
            yield self, sensor, inputs(self.route, sensor), self._judged(sensor, row.values, {}), row.qos, False

    def outputs(self, sensor: Sensor) -> Outputs:
        """Return where the answers for a sensor go; those of some sensors are kept."""
        found = self._outputs.get(sensor)
        if found is None:
            route, known = self.route, captured_by(self.route, sensor)
            publish, errors = route.publish.render(known), route.errors.render(known)
            found = Outputs(publish, errors, named(route, known), route.retain)
            if len(self._outputs) >= _OUTPUTS:
                self._outputs.clear()
            self._outputs[sensor] = found
        return found

    def _take_row(self, topic: GatheredTopic, row: Features, message: Message, now: float) -> list[Due]:
        """Take a whole row that says what is outside of what training saw."""
        sensor = topic.sensor
        if message.retained or topic.refusal is not None:
            due = self._take(topic, Part([*enumerate(row.values)], [], None, row.echo), message, now)
            return [] if due is None else [due]
        if not self._remembers:
            return [(self, sensor, message.topic, row, message.qos, True)]
        if self._outside:
            self._outside.pop(sensor, None)
        qos = self.sensors.put_row(sensor, row.values, now, qos=message.qos, duplicate=message.duplicate)
        return [] if qos is None else [(self, sensor, message.topic, row, qos, True)]

    def _take(self, topic: GatheredTopic, part: Part, message: Message, now: float) -> Due | None:
        sensor, refusal = topic.sensor, topic.refusal
        if part.named:
            sensor += part.named
            refusal = _too_long(sensor)
        if refusal is not None:
            return self, self._padded(sensor), message.topic, refusal, message.qos, False
        if not self._remembers:
            refused = part.refusal or _rejected(part.outside, part.echo)
            content = refused or Features(tuple(value for _, value in part.values), part.echo)
            return self, self._padded(sensor), message.topic, content, message.qos, False
        if part.forgotten:
            self.sensors.drop(sensor, part.forgotten)
        if part.outside or (self._outside and sensor in self._outside):
            self._note_outside(sensor, part)
        row = None
        if part.values:
            row = self.sensors.put(
                sensor, part.values, now, qos=message.qos, duplicate=message.duplicate, retained=message.retained
            )
        elif part.forgotten and part.refusal is None:
            row = self.sensors.lost(sensor, now, qos=message.qos)
        if part.refusal is not None:
            return self, self._padded(sensor), message.topic, part.refusal, message.qos, False
        if row is None:
            return None
        return self, sensor, message.topic, self._judged(sensor, row.values, part.echo), row.qos, False

    def _note_outside(self, sensor: Sensor, part: Part) -> None:
        """Keep why values are to be rejected until others take their place."""
        kept = self._outside.setdefault(sensor, {})
        for position, value in part.values:
            kept.pop(position, None)
            if position in part.outside:
                kept[position] = value, part.outside[position]
        if not kept:
            del self._outside[sensor]
        elif len(self._outside) > self._most_outside:
            self._outside.popitem(last=False)

    def _judged(self, sensor: Sensor, values: tuple[float, ...], echo: dict[str, Any]) -> Features | Unusable:
        """Return a row of a sensor's values, or why it is rejected for some that are outside of what training saw."""
        kept = self._outside.get(sensor)
        if kept is None:
            return Features(values, echo)
        # A value may have been forgotten meanwhile, or have come back.
        reasons = {position: reason for position, (value, reason) in kept.items() if values[position] == value}
        return _rejected(reasons, echo) or Features(values, echo)

    def told_levels(self) -> list[UnknownLevel]:
        """Return levels with messages that map to no feature, each with the one that may be meant."""
        levels = {level.lower(): level for _, level in self._readers if level is not None}
        told: list[UnknownLevel] = []
        for level, topic in self.unknown_levels.items():
            close = difflib.get_close_matches(level.lower(), levels, n=1)
            told.append({"level": level, "topic": shown_topic(topic), "meant": levels[close[0]] if close else None})
        return told

    def _padded(self, sensor: Sensor) -> Sensor:
        """Return a sensor with a name for all that it does not say."""
        return sensor + (UNKNOWN,) * (len(self._named_by) - len(sensor))


def _rejected(reasons: Mapping[int, Detail], echo: dict[str, Any]) -> Unusable | None:
    """Return the rejection for reasons by position, None when there are none."""
    detail = [reasons[position] for position in sorted(reasons)]
    return Unusable(ErrorCode.INVALID_FEATURES, cut_details(detail), echo) if detail else None


def _too_long(sensor: Sensor) -> Unusable | None:
    """Return why no answer is given for a sensor whose name is too long."""
    if (size := len("".join(sensor).encode())) <= MAX_NAME_BYTES:
        return None
    words = f"The levels that name the sensor have {size} bytes; at most {MAX_NAME_BYTES} are taken"
    return refuse(ErrorCode.INVALID_TOPIC, words)


def _echoed(source: Source) -> Fields:
    paths = dict(source.fields)
    return tuple((name, paths.get(name) or Place((name,))) for name in ECHOED)


def captured_by(route: Route, sensor: Sensor) -> dict[str, str]:
    """Return the known names of a sensor."""
    return dict(zip(route.names, sensor, strict=True))


def named(route: Route, captured: Mapping[str, str]) -> str | None:
    """Return what an answer calls its sensor, None when the route does not ask for it."""
    if not route.name_sensor:
        return None
    return shown_topic("/".join(captured[name] for name in route.names))


def inputs(route: Route, sensor: Sensor) -> str:
    """Return the topic filter of a sensor's values, of the first source where there are several."""
    return route.inputs[0].filter_for(captured_by(route, sensor))


def report(gatherings: Iterable[Gathering], now: float, *, limit: int) -> Gathered:
    """Return the figures of gathering routes, with up to `limit` incomplete sensors."""
    told: Gathered = {"sensors": 0, "complete": 0, "forgotten": 0, "ignored": 0, "waiting": [], "unknown": []}
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
        told["unknown"] += one.told_levels()[: _LEVELS_KEPT - len(told["unknown"])]
    return told

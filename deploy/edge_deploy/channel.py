"""What a channel holds on the broker, all of it retained: the manifest, and the pieces of model files that it names.

Rules:
* The pieces come before the manifest that names them, and are confirmed by the broker before it is sent.
* What is there already, byte for byte, is not sent again; what was sent is read back once, for there are brokers that confirm
  what they do not keep.
* A message from the broker is judged by its content. What its topic says of it is only where to look.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from edge_deploy.release import Bundle, Signed
from edge_deploy.wire import PATIENT, QUIET, Clock, Wire, kept
from edge_deploy.wording import some

from edge_agent.contract import topics
from edge_agent.contract.manifest import MAX_ENTRIES, MAX_MESSAGE_BYTES, Envelope, Manifest, pieces, read, read_manifest
from edge_agent.contract.messages import Message
from edge_agent.errors import BrokerError, InputError, TrustError
from edge_agent.wording import count

#: What a PUBLISH has beside topic and payload, at the most: header, length of the topic, packet id, length of the properties.
_FRAME: Final = 16
_BLOB: Final = re.compile(r"[0-9a-f]{64}/[0-9]{1,5}")


class Current(NamedTuple):
    """The manifest that a channel has: nothing (all None), one that is read, or one that can't be (`fault`)."""

    envelope: Envelope | None = None
    manifest: Manifest | None = None
    fault: str | None = None

    @property
    def serial(self) -> int:
        """Its serial, 0 without one."""
        return self.manifest.serial if self.manifest else 0

    @classmethod
    def of(cls, payload: bytes, channel: str) -> Current:
        """Read a message; what can't be read is told, for anybody may have written it."""
        if not payload:
            return cls()
        try:
            envelope = read(Envelope, payload, "the manifest on the channel")
            return cls(envelope, read_manifest(envelope.manifest, "the manifest on the channel", channel))
        except TrustError as error:
            return cls(fault=str(error))


class Pushed(NamedTuple):
    """What became of the pieces of model files."""

    sent: int
    there: int
    bytes_sent: int


class Channel:
    """A channel on a broker."""

    def __init__(self, name: str, wire: Wire, clock: Clock = time.monotonic) -> None:
        self.name = name
        self._wire = wire
        self._clock = clock

    @property
    def topic(self) -> str:
        """The topic of the manifest."""
        return topics.manifest(self.name)

    def current(self) -> Current:
        """Return the manifest that the broker has."""
        found = Current()

        def take(message: Message) -> bool:
            nonlocal found
            if message.topic == self.topic:
                found = Current.of(message.payload, self.name)
            return message.topic == self.topic

        kept(self._wire, [self.topic], take, self._clock, 3 * QUIET)
        self._wire.unsubscribe([self.topic])
        return found

    def require(self, bundle: Bundle) -> None:
        """Check that the broker can hold a release. Raises `BrokerError`."""
        limits = self._wire.limits
        if not limits.retains:
            raise BrokerError(
                "the broker keeps no retained messages (CONNACK: Retain Available 0), so a node that is away would never learn of a "
                "model; use another broker for edge/fleet/#, or copy the files and use `edge-agent model install`"
            )
        largest = max(
            _FRAME + len(topic.encode()) + len(payload)
            for topic, payload in [(self.topic, bundle.forward.envelope.payload()), *self._pieces(bundle).items()]
        )
        if limits.packet_bytes is not None and largest > limits.packet_bytes:
            raise BrokerError(
                f"the broker takes packets of {limits.packet_bytes} bytes at most, and this release needs {largest}; raise its "
                "limit (Mosquitto: max_packet_size)"
            )

    def push(self, bundle: Bundle) -> Pushed:
        """Publish the pieces of all models that are not there yet, and read them back. Raises `BrokerError`."""
        self.require(bundle)
        wanted = self._pieces(bundle)
        lacking = self._lacking(wanted)
        if not lacking:
            return Pushed(0, len(wanted), 0)
        for topic in lacking:
            self._wire.publish(topic, wanted[topic])
        self._wire.settle()
        if lost := self._lacking({topic: wanted[topic] for topic in lacking}, PATIENT):
            raise BrokerError(
                f"the broker confirmed {some(sorted(lost))}, but does not keep it: {count(len(lost), 'piece')} of {len(wanted)}; "
                "see whether it keeps retained messages of this size (Mosquitto: message_size_limit, retain_available), and whether "
                "its access rules let you read and write edge/fleet/#"
            )
        return Pushed(len(lacking), len(wanted) - len(lacking), sum(len(wanted[topic]) for topic in lacking))

    def announce(self, signed: Signed, wave: Sequence[str] | None) -> Current:
        """Publish a manifest for the nodes of `wave`, None for all that it names; return it as nodes see it."""
        envelope = signed.envelope.model_copy(update={"wave": None if wave is None else tuple(wave)})
        payload = envelope.payload()
        if wave is not None and len(wave) > MAX_ENTRIES:
            raise InputError(
                f"the wave has {len(wave)} entries, but nodes read {MAX_ENTRIES}; name a pattern or a share"
            )
        if len(payload) > MAX_MESSAGE_BYTES:
            raise InputError(
                f"the manifest has {len(payload)} bytes with this wave, but nodes read {MAX_MESSAGE_BYTES}"
            )
        self._wire.publish(self.topic, payload)
        self._wire.settle()
        return Current(envelope, signed.manifest)

    def stale(self, keep: Iterable[Manifest]) -> list[str]:
        """Return the topics of pieces that the broker has and no manifest of `keep` names."""
        named = {model.sha256 for manifest in keep for model in manifest.models}
        base = topics.blob(self.name, "", "").rstrip("/")
        found: set[str] = set()

        def take(message: Message) -> bool:
            rest = message.topic.removeprefix(f"{base}/")
            if message.payload and _BLOB.fullmatch(rest) and rest.partition("/")[0] not in named:
                found.add(message.topic)
            return False

        kept(self._wire, [f"{base}/#"], take, self._clock)
        self._wire.unsubscribe([f"{base}/#"])
        return sorted(found)

    def clear(self, names: Iterable[str]) -> None:
        """Take retained messages away."""
        for topic in names:
            self._wire.publish(topic, b"")
        self._wire.settle()

    def _pieces(self, bundle: Bundle) -> dict[str, bytes]:
        """Return what is to be kept, by topic."""
        return {
            topics.blob(self.name, model.sha256, number): piece
            for model in bundle.models
            for number, piece in enumerate(pieces(bundle.contents[model.sha256]))
        }

    def _lacking(self, wanted: Mapping[str, bytes], quiet: float = QUIET) -> list[str]:
        """Return the topics that do not have their content."""
        lacking = dict.fromkeys(wanted)
        filters = sorted({topic.rpartition("/")[0] + "/+" for topic in wanted})

        def take(message: Message) -> bool:
            if wanted.get(message.topic) == message.payload:
                lacking.pop(message.topic, None)
            return not lacking

        kept(self._wire, filters, take, self._clock, quiet)
        self._wire.unsubscribe(filters)
        return list(lacking)


def joined(current: Current, signed: Signed, wave: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return a wave together with the one that the same manifest has on the channel: who was in one stays in it."""
    if current.envelope is None or not signed.is_in(current.envelope):
        return wave
    published = current.envelope.wave
    return None if wave is None or published is None else tuple(dict.fromkeys((*published, *wave)))


def needed(current: Current, releases: Sequence[Manifest], where: str, *, everything: bool = False) -> list[Manifest]:
    """Return the manifests whose files stay when a channel is tidied up. Raises `InputError` where nothing says what is still of use,
    unless `everything` is meant.
    """
    if current.fault is not None:
        raise InputError(f"{where}: {current.fault}; publish a release first, so that it is known what to keep")
    if current.manifest is not None:
        return [*releases, current.manifest]
    if not releases and not everything:
        raise InputError(
            f"{where}: no manifest, so nothing says which files are still of use; name the MODELS whose files stay, or clear "
            "everything with --all"
        )
    return list(releases)


def require_fit(current: Current, signed: Signed) -> None:
    """Check that nodes can take a manifest after the one that is on the channel. Raises `InputError`, `TrustError`."""
    if current.fault is not None:
        return  # what nodes can't read, they have not taken
    if current.manifest is None or signed.is_in(current.envelope) or current.serial < signed.serial:
        return
    if current.serial == signed.serial:
        raise InputError(
            f"the channel {signed.manifest.channel!r} has another manifest with the same serial {signed.serial}; sign the release again"
        )
    raise InputError(
        f"the channel {signed.manifest.channel!r} has serial {current.serial}, above this release's {signed.serial}, so nodes would refuse "
        "it; sign the model again (a serial is the time of signing)"
    )

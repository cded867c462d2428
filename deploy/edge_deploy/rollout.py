"""A roll-out: a release to wave after wave of nodes, and back when it goes wrong.

What is published is all that is remembered: the manifest on the channel, with its wave, says how far a roll-out is. So it can be
interrupted anywhere and run again, and a newer release is never blocked by a roll-out that did not end. Rules:

* A wave, the last one too, is over when all of its nodes that can be reached have committed, and nothing went wrong for `pause` seconds
  after that. Time without a connection does not count, and nothing is published before all that is kept was read again.
* More than `max_refused` nodes in trouble (`edge_deploy.standing`) end the roll-out: the way back that was signed with the release goes
  to all that were in a wave. Without one, nobody takes the release from then on.
* Another manifest on the channel ends it too, and then nothing is taken back: somebody else is at it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

from edge_deploy import waves
from edge_deploy.channel import Channel, Current, require_fit
from edge_deploy.events import Event, Say
from edge_deploy.nodes import FILTERS, Nodes
from edge_deploy.release import Bundle, Signed
from edge_deploy.standing import Judge, Limits, Standing, words
from edge_deploy.wire import PATIENT, QUIET, Clock, Wire, kept
from edge_deploy.wording import some

from edge_agent.contract.manifest import MAX_ENTRIES, is_meant, place_of
from edge_agent.contract.messages import Message
from edge_agent.errors import BrokerError, InputError
from edge_agent.wording import count, plain

#: Longest single wait for news, in seconds.
_TURN: Final = 1.0

#: Most nodes that are picked in a wave in place of those that wait for a person.
_MOST_SPARE: Final = 10


class Outcome(StrEnum):
    """How a roll-out ended."""

    DONE = "done"
    #: No node said anything of it.
    NOBODY = "nobody"
    TAKEN_BACK = "taken_back"
    #: Nodes that are not away did not take the way back.
    INCOMPLETE = "incomplete"
    STOPPED = "stopped"
    SUPERSEDED = "superseded"
    INTERRUPTED = "interrupted"


class Rollout:
    """One run of `edge-deploy rollout` or `edge-deploy take-back`."""

    def __init__(
        self, bundle: Bundle, channel: Channel, wire: Wire, say: Say, *, limits: Limits, clock: Clock = time.monotonic
    ) -> None:
        self._bundle = bundle
        self._channel = channel
        self._wire = wire
        self._say = say
        self._limits = limits
        self._clock = clock
        self._current = Current()
        #: What we published before what is there now: the broker sends it to us, too, and may be late with it.
        self._replaced: list[bytes] = []
        self._nodes = Nodes()
        self._judge = Judge(bundle.forward.manifest, self._nodes, limits)

    def run(self, plan: Sequence[waves.Wave]) -> Outcome:
        """Roll out. Raises `InputError` where the channel is beyond this release or no node is there, `BrokerError`."""
        forward = self._bundle.forward
        try:
            self._look()
            require_fit(self._current, forward)
            published = self._current.envelope
            reached = waves.reached(plan, published) if published and forward.is_in(published) else -1
            if reached >= 0:
                text = (
                    f"{forward.title} is published up to wave {reached + 1} of {len(plan)} already; going on from there"
                )
                self._tell("resumed", text, wave=reached + 1, waves=len(plan))
            for number in range(max(reached, 0), len(plan)):
                if number > reached:
                    self._publish(plan, number)
                where = f"wave {number + 1} of {len(plan)} ({plan[number].text})"
                if (ended := self._watch(where, plan[number].number)) is not None:
                    return ended
        except KeyboardInterrupt:
            return self._interrupted(
                f"{self._extent()}; run the same command again to go on, or edge-deploy take-back to go back"
            )
        standing = self._standing()
        if not (standing.there or standing.waiting or standing.trouble):
            text = f"nobody has {forward.title}: it is published, but no node that it is for is online; edge-deploy status shows what is known"
            self._tell("nobody", text, away=standing.away)
            return Outcome.NOBODY
        self._tell("done", f"done: {forward.title}: {words(standing)}", nodes=standing.there, away=standing.away)
        return Outcome.DONE

    def take_back(self) -> Outcome:
        """Publish the way back for all nodes that were in a wave, and watch them go. Raises `InputError`, `BrokerError`."""
        back = self._bundle.back
        if back is None:
            raise InputError(
                "this release was signed without a way back; sign the former model anew (edge-convert sign OLD_MODEL --key KEY "
                f"--channel {self._bundle.channel}: its serial is then the higher one), and push that"
            )
        self._look()
        require_fit(self._current, back)
        if not any(signed.is_in(self._current.envelope) for signed in (self._bundle.forward, back)):
            raise InputError(
                f"{self._bundle.forward.title} (serial {self._bundle.forward.serial}) is not what the channel {self._channel.name!r} has, "
                "so there is nothing to take back; edge-deploy status --channel shows what it has"
            )
        return self._go_back(back)

    def _go_back(self, back: Signed) -> Outcome:
        published = self._current.envelope
        wave = published.wave if published else None
        if wave is not None:
            # Also those that the wave on the channel does not name (any more).
            wave = (*wave, *(name for name in self._takers(back) if not is_meant(name, self._channel.name, wave)))
            if len(wave) > MAX_ENTRIES:
                wave = None  # too many to name: better too far back than not far enough
        # Who refused the release may refuse the way back for the same reason, so nobody waits for it. Who went back by itself takes it.
        refused = {
            name for name in self._standing().trouble if self._nodes.known[name].refuses(self._bundle.forward.manifest)
        }
        refused -= set(self._takers(back))
        if published is None or not back.is_in(published) or wave != published.wave:
            self._announce(back, wave)
        text = f"taking back: {back.title} for {'all nodes' if wave is None else some(wave) or 'no node'}"
        self._tell("taking_back", text, wave=wave)
        self._judge = Judge(back.manifest, self._nodes, self._limits)
        self._judge.begin(self._clock())
        try:
            while True:
                self._listen()
                standing = self._standing()
                self._progress("taking back", standing)
                if not set(standing.moving) - refused:
                    break
                if not back.is_in(self._current.envelope):
                    return self._superseded()
        except KeyboardInterrupt:
            return self._interrupted("the way back stays published, and nodes go on taking it")
        for name, reason in sorted(standing.trouble.items()):
            self._tell("trouble", f"{name}: {plain(reason)}", node=name, reason=reason)
        silent = sorted(standing.moving)
        left = sorted({*standing.trouble, *silent, *standing.waiting})
        text = f"taken back: {count(len(standing.there), 'node')} on {back.title}"
        text += f"; in trouble: {some(sorted(standing.trouble))}" if standing.trouble else ""
        text += f"; not heard of: {some(silent)}" if silent else ""
        text += f"; waiting for a person: {some(standing.waiting)}" if standing.waiting else ""
        text += f"; {len(standing.away)} away, which take it when they come back" if standing.away else ""
        self._tell("taken_back", text, nodes=standing.there, left=left, waiting=standing.waiting, away=standing.away)
        return Outcome.INCOMPLETE if left else Outcome.TAKEN_BACK

    def _takers(self, back: Signed) -> list[str]:
        """Return the nodes that have the release, or are on their way to it."""
        forward = self._bundle.forward.manifest
        changed = [model for model in forward.models if back.manifest.model(model.name) != model]
        return [node.name for node in self._nodes.of(back.manifest, None) if node.took(forward, changed)]

    # -- the steps of a roll-out

    def _look(self) -> None:
        """Learn what the channel has and what the nodes say, and go on listening to both."""
        self._current = self._channel.current()
        kept(self._wire, FILTERS, self._take, self._clock)
        self._wire.subscribe([self._channel.topic])
        self._judge.begin(self._clock())

    def _publish(self, plan: Sequence[waves.Wave], number: int) -> None:
        forward = self._bundle.forward
        published = self._current.envelope
        before = (published.wave or ()) if published and forward.is_in(published) else ()
        able = self._able()
        ends = self._clock() + PATIENT
        while plan[number].number is not None and not able and self._clock() < ends:
            self._listen()
            able = self._able()
        if plan[number].number is not None and not able:
            raise InputError(
                f"no node to begin with: none that is online serves {forward.title} and is meant by the release "
                "(edge-deploy status shows what is known); name a share, such as 10%"
            )
        wave = waves.entries(plan, number, self._channel.name, able, before)
        self._announce(forward, wave)
        self._judge.begin(self._clock())
        meant = [node.name for node in self._nodes.of(forward.manifest, wave)]
        text = (
            f"wave {number + 1} of {len(plan)} ({plan[number].text}): {forward.title} for {count(len(meant), 'node')}"
        )
        self._tell(
            "wave",
            f"{text}: {some(meant)}" if meant else text,
            wave=number + 1,
            waves=len(plan),
            entries=wave,
            nodes=meant,
        )

    def _able(self) -> list[str]:
        """Return the nodes that can take the release now."""
        return [node.name for node in self._nodes.of(self._bundle.forward.manifest, None) if node.online]

    def _watch(self, where: str, number: int | None) -> Outcome | None:
        """Wait until a wave, of so many nodes if it is a number, is over. Returns how the roll-out ended, None while it goes on."""
        spare = _MOST_SPARE
        pause = max(self._limits.pause, float(self._bundle.forward.manifest.soak_seconds))
        over: float | None = None
        while True:
            away = self._listen()
            over = None if over is None else over + away
            if not self._bundle.forward.is_in(self._current.envelope):
                return self._superseded()
            standing = self._standing()
            if len(standing.trouble) > self._limits.max_refused:
                return self._fail(where, standing)
            if number is not None and standing.waiting and (more := self._others(number, standing)[:spare]):
                spare -= len(more)
                self._add(where, more, standing)
                over = None
            elif standing.moving:
                over = None
                self._progress(where, standing)
            elif not any(standing):
                self._tell("empty", f"{where}: no node is in it, so there is nothing to watch")
                return None
            elif over is None:
                over = self._clock()
                text = f"{where}: {words(standing)}" + (f"; watching them for {pause:.0f} s" if pause else "")
                self._tell("committed", text, **standing._asdict())
            if over is not None and self._clock() - over >= pause:
                return None

    def _others(self, number: int, standing: Standing) -> list[str]:
        """Return nodes in place of those that wait for a person, who tell nothing about the release."""
        published, channel = self._current.envelope, self._channel.name
        if published is None or published.wave is None:
            return []
        lacking = max(0, number - len(standing.there) - len(standing.moving) - len(standing.trouble))
        free = (name for name in self._able() if not is_meant(name, channel, published.wave))
        return sorted(free, key=lambda node: place_of(node, channel))[:lacking]

    def _add(self, where: str, more: Sequence[str], standing: Standing) -> None:
        before = self._current.envelope
        self._announce(self._bundle.forward, (*((before and before.wave) or ()), *more))
        text = f"{where}: {some(standing.waiting)} {'waits' if len(standing.waiting) == 1 else 'wait'} for a person; also {some(more)}"
        self._tell("added", text, nodes=more, waiting=standing.waiting)

    def _fail(self, where: str, standing: Standing) -> Outcome:
        for name, reason in sorted(standing.trouble.items()):
            self._tell("trouble", f"{name}: {plain(reason)}", node=name, reason=reason)
        text = f"{where}: {count(len(standing.trouble), 'node')} in trouble, and {self._limits.max_refused} allowed"
        if self._bundle.back is not None:
            self._tell("stopped", f"{text}: going back", **standing._asdict())
            outcome = self._go_back(self._bundle.back)
            return Outcome.TAKEN_BACK if outcome is Outcome.INCOMPLETE else outcome
        # Nobody signed a way back. What can be done without a key: nobody takes it from now on.
        self._announce(self._bundle.forward, ())
        text += (
            ": stopped, and no further node takes it. The release has no way back (sign with --back), so "
            f"{count(len(standing.there), 'node')} keep it until the next one"
        )
        self._tell("stopped", text, **standing._asdict())
        return Outcome.STOPPED

    def _superseded(self) -> Outcome:
        text = f"another manifest is on the channel now (serial {self._current.serial}): this ends here, and takes nothing back"
        self._tell("superseded", text, serial=self._current.serial)
        return Outcome.SUPERSEDED

    def _interrupted(self, what: str) -> Outcome:
        standing = self._standing()
        self._tell("interrupted", f"interrupted: {what}. {words(standing)}", **standing._asdict())
        return Outcome.INTERRUPTED

    def _extent(self) -> str:
        """Say how far the release is published."""
        published = self._current.envelope
        if published is None or not self._bundle.forward.is_in(published):
            return "the release is not published"
        return f"the release stays published for {'all nodes' if published.wave is None else some(published.wave) or 'no node'}"

    # -- what is heard, and said

    def _announce(self, signed: Signed, wave: Sequence[str] | None) -> None:
        if self._current.envelope is not None:
            self._replaced.append(self._current.envelope.payload())
        self._current = self._channel.announce(signed, wave)

    def _listen(self) -> float:
        """Take what arrives within a turn. Where the connection ends, wait for the next one, and for all that is kept: nothing is decided
        or published without it. Returns the seconds that this took, which count for nobody.
        """
        begun = self._clock()
        self._receive()
        if self._wire.connected:
            return 0.0
        self._tell("disconnected", "the connection to the broker has ended; connecting again")
        filters = [self._channel.topic, *FILTERS]
        while not self._wire.connected:
            while not self._wire.connected:
                self._receive()
            self._wire.unsubscribe(filters)
            self._restore()
            kept(self._wire, filters, self._take, self._clock, 3 * QUIET)
        passed = self._clock() - begun
        self._judge.pass_over(passed)
        return passed

    def _restore(self) -> None:
        """Publish again what a broker has lost that keeps nothing when it is started again; else nobody would find it."""
        published = self._current.envelope
        signed = next((one for one in (self._bundle.forward, self._bundle.back) if one and one.is_in(published)), None)
        if published is None or signed is None or self._channel.current() != Current() or not self._wire.connected:
            return
        try:
            self._channel.push(self._bundle)
            self._announce(signed, published.wave)
        except BrokerError:
            if self._wire.connected:
                raise
        else:
            self._tell("restored", "the broker had lost what was published: it is published again")

    def _receive(self) -> None:
        for message in self._wire.receive(_TURN):
            self._take(message)

    def _take(self, message: Message) -> bool:
        if message.topic == self._channel.topic:
            if message.payload not in self._replaced:
                self._current = Current.of(message.payload, self._channel.name)
        else:
            self._judge.take(message, self._clock())
        return False

    def _standing(self) -> Standing:
        wave = self._current.envelope.wave if self._current.envelope else None
        return self._judge.standing(wave, self._clock())

    def _progress(self, where: str, standing: Standing) -> None:
        self._say(Event("progress", f"{where}: {words(standing)}", standing._asdict(), passing=True))

    def _tell(self, kind: str, text: str, **data: Any) -> None:
        self._say(Event(kind, text, data))

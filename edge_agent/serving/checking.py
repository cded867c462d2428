"""Which manifest and which list of keys are checked next: one at a time, in a process of its own, the newest first.

Rules:

* what comes is kept as it is, the newest only, and not looked into: its signature is checked before anything is read of it;
* the same message again, as on each new connection, is nothing new; but one that was refused is checked again then, because
  what was wrong may be this device (its clock);
* what came last is looked at again when what it is compared with has changed: what is served, or the settings;
* while they are refused the pauses grow, so that a flood of them costs next to nothing;
* keys come first, and a manifest that was refused is checked once more when they have changed; but a list of keys that is not accepted
  keeps no manifest waiting: then it is the manifest's turn;
* what the system ended the check of is checked again: that is no fault of the message, unless it happens three times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from edge_agent.contract import topics
from edge_agent.contract.manifest import MAX_MESSAGE_BYTES
from edge_agent.errors import CutShortError, EdgeAgentError, FileError, StoreError
from edge_agent.model.trust import Offer
from edge_agent.serving.released import MOST_CUT_SHORT, Job, Workshop

#: Seconds between two checks, doubled while they are refused.
_BETWEEN: Final = 1.0
_LONGEST: Final = 60.0


class Checking:
    """The manifests and the keys of a channel. `clock` gives seconds."""

    def __init__(self, channel: str, clock: Callable[[], float]) -> None:
        self.manifest, self.keys = topics.manifest(channel), topics.keys(channel)
        self._clock = clock
        #: By topic: what waits to be checked, and what was checked last.
        self._waiting: dict[str, bytes] = {}
        self._checked: dict[str, bytes] = {}
        self._job: tuple[str, bytes, Job[Any]] | None = None
        #: Whether the manifest that was checked last was refused.
        self._is_refused = False
        #: Whether a manifest comes first for once, because the list of keys before was not accepted.
        self._yields = False
        self._refusals = 0
        #: What the system ended the check of last, and how many times in a row.
        self._cut = b"", 0
        self._next = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to check."""
        return self._job is None and not self._waiting

    def heard(self, topic: str, payload: bytes) -> bool:
        """Take a message; return whether it is for this."""
        if topic not in {self.manifest, self.keys}:
            return False
        if not payload:  # cleared: it says nothing, and is not looked at again
            self._waiting.pop(topic, None)
            self._checked.pop(topic, None)
        # One byte more than is allowed says that it is too large.
        elif self._checked.get(topic) != (payload := payload[: MAX_MESSAGE_BYTES + 1]):
            self._waiting[topic] = payload
        return True

    def turn(self, workshop: Workshop) -> Offer | EdgeAgentError | None:
        """Go on; return, once each, a manifest that was accepted, or why something was not."""
        if self._job is not None:
            return self._end(*self._job) if self._job[2].ended else None
        if not self._waiting or self._clock() < self._next:
            return None
        first, second = (self.manifest, self.keys) if self._yields else (self.keys, self.manifest)
        topic = first if first in self._waiting else second
        content = self._waiting.pop(topic)
        self._checked[topic] = content
        self._next = self._clock() + self._pause
        begin = workshop.trust if topic == self.keys else workshop.accept
        try:
            self._job = topic, content, begin(content)
        except (EdgeAgentError, OSError) as error:  # no process
            return self._not_accepted(topic, content, FileError(f"can't be checked: {error}"))
        return None

    def once_more(self) -> None:
        """Look again at what was checked before."""
        self._waiting = self._checked | self._waiting

    def reconnected(self) -> None:
        """Take a manifest that was refused as new, when it comes again."""
        if self._is_refused:
            self._checked.pop(self.manifest, None)

    def close(self) -> None:
        """End what is under way."""
        if self._job is not None:
            self._job[2].close()
            self._job = None

    def _end(self, topic: str, content: bytes, job: Job[Any]) -> Offer | EdgeAgentError | None:
        self._job = None
        try:
            accepted: Offer | None = job.result()
        except EdgeAgentError as error:
            return self._not_accepted(topic, content, error)
        finally:
            job.close()
        self._refusals = 0
        self._yields = False
        if topic == self.manifest:
            self._is_refused = False
        elif self._is_refused and self.manifest in self._checked:
            self._waiting.setdefault(self.manifest, self._checked[self.manifest])
        return accepted

    def _not_accepted(self, topic: str, content: bytes, error: EdgeAgentError) -> EdgeAgentError:
        self._refusals += 1
        self._yields = topic == self.keys
        self._next = max(self._next, self._clock() + self._pause)
        again = isinstance(error, CutShortError) and self._cut_short(content) < MOST_CUT_SHORT
        if again or isinstance(error, FileError | StoreError):  # the device, not the message: it is tried again
            self._waiting.setdefault(topic, content)
        elif topic == self.manifest:
            self._is_refused = True
        return error

    @property
    def _pause(self) -> float:
        return min(_LONGEST, _BETWEEN * 2.0 ** min(self._refusals, 16))

    def _cut_short(self, content: bytes) -> int:
        """Return how many times in a row the system has ended the check of this message."""
        which, times = self._cut
        self._cut = _digest(content), times % MOST_CUT_SHORT + 1 if which == _digest(content) else 1
        return self._cut[1]


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16).digest()

"""Which pieces of model files are to be fetched next, from the topics on which the broker keeps them.

Rules:

* one piece at a time, by a subscription to its exact topic; the one before is given back together with the request for the next, so
  that each piece costs one exchange with the broker;
* nothing is asked for while messages wait (`busy`): live traffic goes first;
* a piece that does not match its hash, that does not come, or that the broker refuses, is fetched again after pauses that grow, and
  counted. Meanwhile the others are fetched.

Pure: time comes in as a clock, pieces go out to `Part`s.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from edge_agent.contract import topics
from edge_agent.errors import StoreError

#: Seconds until a piece that was asked for is given up for now, and until it is asked for again: doubled each time up to the longest.
_PATIENCE: Final = 30.0
_PAUSE: Final = 1.0
_LONGEST: Final = 300.0

#: What helps where a piece did not come: with a broker that keeps it, and with one that does not.
_RETAINED: Final = "publish it again, retained"
_NOT_RETAINED: Final = "the broker keeps no retained messages: publish it again and again while this node asks for it, or use edge-agent model install"


class Part(Protocol):
    """A file of which not all is there yet (implemented by `edge_agent.model.store.Part`)."""

    @property
    def count(self) -> int:
        """How many pieces it has, as far as that is known."""

    @property
    def there(self) -> int:
        """How many of them are there."""

    def missing(self) -> Sequence[int]:
        """Return the numbers of the pieces that are not there; only the next where they have to come in order."""

    def write(self, number: int, content: bytes) -> bool:
        """Keep a piece; return False when it does not match its hash. Raises `FileError`, and `StoreError` when all of them have to be
        fetched again.
        """

    def instead(self, number: int) -> int:
        """Return which piece is to be asked for when this one failed: it may be because of another one."""

    def close(self) -> None:
        """Close it; what has come stays."""


class _Piece(NamedTuple):
    sha256: str
    number: int


class Fetching:
    """The pieces of `files`, by the sha256 of the file."""

    def __init__(self, channel: str, files: Mapping[str, Part], clock: Callable[[], float]) -> None:
        #: Pieces that had to be fetched again: not what they should be, or not there.
        self.damaged = self.absent = 0
        #: Why the last piece has to be fetched again; None once one has come since.
        self.trouble: str | None = None
        self._fix = _RETAINED
        self._channel = channel
        self._files = files
        self._clock = clock
        #: When pieces may be asked for again, and how often each has failed.
        self._resting: dict[_Piece, float] = {}
        self._failed: dict[_Piece, int] = {}
        self._left = deque(self._missing())
        self._asked: _Piece | None = None
        self._until = math.inf

    @property
    def done(self) -> bool:
        """Whether all pieces are there."""
        return not (self._left or self._resting or self._asked)

    @property
    def lacking(self) -> int:
        """The number of pieces that are not there."""
        return sum(part.count - part.there for part in self._files.values())

    @property
    def percentage(self) -> int:
        """How much is there of what has to be fetched, in percent."""
        count = sum(part.count for part in self._files.values())
        return 100 * (count - self.lacking) // count if count else 100

    @property
    def wanted(self) -> Mapping[str, bool]:
        """What is to be subscribed to now, each with whether what is retained is wanted on every connection."""
        return {} if self._asked is None else {self._topic(self._asked): True}

    def turn(self, *, busy: bool, retains: bool = True) -> None:
        """Ask for the next piece if it is time: then `wanted` changes. `retains` says whether the broker keeps pieces."""
        self._fix = _RETAINED if retains else _NOT_RETAINED
        if self._asked is not None and self._clock() >= self._until:
            self.absent += 1
            self._rest(
                f"piece {self._asked.number + 1} of {self._count(self._asked)} does not come on {self._topic(self._asked)}; "
                f"{self._fix}"
            )
        if self._asked is None and not busy and (following := self._next()) is not None:
            self._asked = following
            self._until = self._clock() + min(_LONGEST, _PATIENCE * 2.0 ** min(self._failed.get(following, 0), 16))

    def take(self, topic: str, payload: bytes) -> bool:
        """Take a piece; return whether it is one that was asked for and not there yet. Raises `FileError`."""
        asked = self._asked
        if asked is None or topic != self._topic(asked) or not payload:
            return False
        try:
            fits = self._files[asked.sha256].write(asked.number, payload)
        except StoreError:
            self.damaged += 1
            raise
        if fits:
            self._resting.pop(asked, None)
            self._failed.pop(asked, None)
            self._asked, self.trouble = None, None
            if not self._left:  # of files whose pieces come in order, the next ones
                self._left.extend(self._missing())
            return True
        self.damaged += 1
        self._rest(f"piece {asked.number + 1} of {self._count(asked)} is not what was signed ({topic}); {self._fix}")
        return True

    def refused(self, filters: Collection[str]) -> None:
        """Note which subscriptions the broker refuses."""
        if self._asked is not None and (topic := self._topic(self._asked)) in filters:
            self.absent += 1
            self._rest(f"the broker refuses the subscription to {topic}; allow this node to read it")

    def again(self) -> None:
        """Begin anew on another connection, with what is not there."""
        if self._asked is not None:
            self._until = self._clock() + _PATIENCE

    def close(self) -> None:
        """Close the files; what has come stays."""
        for part in self._files.values():
            part.close()

    def _missing(self) -> Iterator[_Piece]:
        pieces = (_Piece(sha, number) for sha, part in self._files.items() for number in part.missing())
        return (piece for piece in pieces if piece not in self._resting)

    def _next(self) -> _Piece | None:
        if self._left:
            return self._left.popleft()
        now = self._clock()
        return next((piece for piece, when in self._resting.items() if when <= now), None)

    def _rest(self, why: str) -> None:
        assert self._asked is not None  # noqa: S101 - for the type checker: callers have looked
        asked, failures = self._asked, self._failed.get(self._asked, 0)
        self._failed[asked] = failures + 1
        self._resting.pop(asked, None)
        following = asked._replace(number=self._files[asked.sha256].instead(asked.number))
        self._resting[following] = self._clock() + min(_LONGEST, _PAUSE * 2.0 ** min(failures, 16))
        self._asked, self.trouble = None, why

    def _topic(self, piece: _Piece) -> str:
        return topics.blob(self._channel, piece.sha256, piece.number)

    def _count(self, piece: _Piece) -> int:
        return self._files[piece.sha256].count

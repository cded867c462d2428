"""Finds the topic filters over which the broker ends the connection: asked for fewer at a time, then one by one.

AWS IoT ends the connection when its policy forbids one filter of several; others do so at one filter more than they take. No
SUBACK says which one it was. Rules:

* After an end with a SUBSCRIBE unanswered, the next connection asks for a packet at a time, and sends nothing else until all
  are answered. The filters of the packet that is unanswered when that ends as well are asked for one by one.
* An end with one filter alone unanswered counts against it, and `_STRIKES` in a row convict it; fewer do after others were
  convicted, but only in the same search, and not where the broker has answered the filter before. From the second on it is asked for only on a connection that has stood for a while (`_QUIET`). An end with anything
  else, or with nothing unanswered, resets all of that: so a broker that restarts or a network that fails convicts nothing.
* A convicted filter counts as refused (docs/decisions/0013), and is not asked for on later connections. When it is tried
  again, it comes last and alone: one end convicts it again, an answer clears it. Of several, the one convicted last comes
  first, for it is the likeliest to be a mistake; one that was convicted again goes behind all others.
* Everything here is in memory only, and bounded by the number of filters that are wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from enum import Enum
from typing import Final

from edge_agent.contract.messages import Refused

#: Ends in a row that convict a filter; where it was never answered, one fewer for each that this search has convicted, but
#: one at least.
_STRIKES: Final = 3
#: Seconds that a connection must have stood before a filter is asked for, by how many ends count against it.
_QUIET: Final = (0.0, 0.25, 1.0)
LONGEST_QUIET: Final = max(_QUIET)


class Learned(Enum):
    """What the end of a connection says."""

    NOTHING = "no filter is suspected"
    SOMETHING = "a filter may be the reason: the next connection asks for a packet at a time"
    NEARER = "one of fewer filters is"
    FOUND = "one was convicted"


class Narrowing:
    """What is known of the filters, over all connections to a broker."""

    def __init__(self) -> None:
        #: Whether packets are sent one at a time.
        self.careful = False
        #: With the reason, in the order in which they are tried again.
        self._convicted: OrderedDict[str, str] = OrderedDict()
        #: Those of the convicted that are tried again on this connection.
        self._again: frozenset[str] = frozenset()
        #: Answered since we are careful, and to be asked for alone, in order.
        self._sound: set[str] = set()
        self._alone: dict[str, None] = {}
        #: Answered on any connection, and not convicted since.
        self._proven: set[str] = set()
        #: How many this search has convicted.
        self._found = 0
        #: What the last ends count against, and how many these are.
        self._struck = ""
        self._strikes = 0

    def refusal(self, one: str) -> Refused | None:
        """Return a filter as refused if it is convicted, and not to be tried again now."""
        reason = None if one in self._again else self._convicted.get(one)
        return None if reason is None else Refused(one, reason)

    def one_at_a_time(self, filters: Collection[str]) -> bool:
        """Tell whether each packet must be answered before anything else is sent, while `filters` are not answered."""
        return self.careful or not self._again.isdisjoint(filters)

    def next(self, filters: Sequence[str], stood: float) -> list[str]:
        """Return which of `filters`, all that are still to be asked for, come next, in packets; none when that has to wait.
        `stood` is for how many seconds the connection is known to have stood.
        """
        if sound := [one for one in filters if one in self._sound]:
            return sound
        left = set(filters)
        if (alone := next((one for one in self._alone if one in left), None)) is not None:
            return [alone] if stood >= _QUIET[self._strikes if alone == self._struck else 0] else []
        if others := [one for one in filters if one not in self._again]:
            return others
        return [one for one in self._convicted if one in left][:1]

    def begin(self, wanted: Collection[str]) -> None:
        """Begin a connection, on which these are wanted."""
        self._again = frozenset()
        self.keep(wanted)

    def keep(self, wanted: Collection[str]) -> None:
        """Forget what is not wanted any more."""
        for one in self._convicted.keys() - wanted:
            del self._convicted[one]
        self._again &= self._convicted.keys()
        self._proven.intersection_update(wanted)

    def try_again(self, filters: Collection[str]) -> None:
        """Try those of `filters` that are convicted again on this connection."""
        self._again |= self._convicted.keys() & filters

    def answered(self, filters: Sequence[str]) -> None:
        """Note that the broker has granted or refused these."""
        for one in filters:
            self._convicted.pop(one, None)
            self._alone.pop(one, None)
        self._again -= frozenset(filters)
        self._proven.update(filters)
        if self.careful:
            self._sound.update(filters)

    def settled(self) -> None:
        """Note that all filters are answered, or that it is not the broker that ended the connection."""
        self.careful = False
        self._again = frozenset()
        self._sound.clear()
        self._alone.clear()
        self._found = 0
        self._struck, self._strikes = "", 0

    def ended(self, asked: Sequence[str], reason: str) -> Learned:
        """Note that the broker ended the connection with the filters `asked` unanswered, and the `reason` for which they are
        refused if they are convicted.
        """
        again, self._again = self._again, frozenset()
        suspects = [one for one in asked if one not in self._sound]
        if not suspects:
            self.settled()
            return Learned.NOTHING
        if not self.careful and again.isdisjoint(suspects):
            self.careful = True
            return Learned.SOMETHING
        if len(suspects) == 1 and suspects[0] in again:
            self._convict(suspects[0], reason, last=True)
            return Learned.FOUND
        self._alone |= dict.fromkeys(suspects)
        if len(asked) > 1:
            self._struck, self._strikes = "", 0
            return Learned.NEARER
        one = asked[0]
        self._strikes = self._strikes + 1 if one == self._struck else 1
        self._struck = one
        if self._strikes < (_STRIKES if one in self._proven else max(1, _STRIKES - self._found)):
            return Learned.NEARER
        self._found += 1
        self._convict(one, reason, last=False)
        return Learned.FOUND

    def _convict(self, one: str, reason: str, *, last: bool) -> None:
        self._convicted[one] = reason
        self._convicted.move_to_end(one, last=last)
        self._proven.discard(one)
        self._alone.pop(one, None)
        self._struck, self._strikes = "", 0

"""What one broker takes, as far as it is known, over all connections to it: a will goes out before the broker says anything.

Rules:

* A CONNACK of MQTT 5 counts until the next one. A reason code that refuses retained messages or a QoS counts for good.
* MQTT 3.1.1 says nothing. A broker that twice in a row ended the connection with a retained message unconfirmed, and never
  took one, is sent none from then on. If it then ends a connection without having confirmed anything, it was not that.
* A broker that closes the connection on CONNECT without a word is tried once more, at once, with a plain will: at QoS 0, not
  retained. If it lets us in then, the will was the reason, and stays plain. At once, for a broker that only starts is not
  done within a moment.
* MQTT 3.1.1: a broker that grants no subscription more than QoS 0 takes no more than that either.
* For good means: until the settings of the connection change, or the agent starts again.
"""

from __future__ import annotations

from typing import Final

from edge_agent.contract.messages import Answer
from edge_agent.link.granted import Granted
from edge_agent.link.narrowing import Narrowing

#: In paho's words (MQTT 5, 2.4).
RETAIN: Final = "Retain not supported"
QOS: Final = "QoS not supported"
#: Connections in a row that ended with a retained message unconfirmed, after which retained messages are taken for the reason.
_ENDS: Final = 2

NO_RETAIN: Final = "the broker keeps no retained messages: state, info and the will are sent without retain"
NO_QOS: Final = "the broker takes no more than QoS 0: answers go out unconfirmed, and messages may be lost"
FOUND_OUT: Final = (
    "the broker ended the connection over a retained message each time: state, info and the will are sent without retain "
    "from now on; to say so from the start: mqtt.retain = false"
)
NOT_THAT: Final = "the broker ends connections without retained messages too: they are sent again"
WILL: Final = "the broker closed the connection over the will: it is sent at QoS 0 and without retain from now on"


class Terms:
    """`retain` is the setting: whether our messages may be retained, None to find out. `last_protocol` is the one that is
    tried when the others are refused.
    """

    def __init__(self, *, retain: bool | None = None, last_protocol: str = "3.1.1") -> None:
        #: Filters that our session may have from before, and that nobody wants: what is known of them, until they are given back.
        self.left: set[str] = set()
        #: Which filters it ends the connection over.
        self.narrowing = Narrowing()
        #: Whether messages of ours, and the will, are retained where they are meant to be.
        self.retains = retain is not False
        self.maximum_qos = 2
        #: Whether `fit` changes anything. Asked for with every message, so it is no property.
        self.limited = not self.retains
        self._wanted = self.retains
        self._proven = retain is True  # the broker took a retained message, or we were told that it does
        self._refused = False  # it said, or showed, that it takes none
        self._on_trial = False  # it did not say so, and has confirmed nothing since
        self._ends = 0
        self._told: list[str] = []
        self._last_protocol = last_protocol
        self._plain_will = False
        self._will_on_trial = False  # it is plain on this attempt, to see whether it is the reason
        self._will_could_be_plainer = False  # the one of the last CONNECT

    @property
    def retains_will(self) -> bool:
        """Whether the will is retained."""
        return self.retains and not self._plain_will

    def fit(self, answer: Answer) -> Answer:
        """Return a message as the broker takes it."""
        return answer._replace(retain=answer.retain and self.retains, qos=min(answer.qos, self.maximum_qos))

    def will(self, will: Answer) -> Answer:
        """Return the will as it goes out with the next CONNECT."""
        sent = self.fit(will)
        if self._plain_will:
            sent = sent._replace(qos=0, retain=False)
        self._will_could_be_plainer = sent.retain or sent.qos > 0
        return sent

    def hung_up(self, protocol: str) -> bool:
        """Note that CONNECT was answered with the end of the connection, without a word; return whether to try at once
        with a plain will.
        """
        if self._will_on_trial:
            self._plain_will = self._will_on_trial = False
            return False
        if protocol != self._last_protocol or self._proven or not self._will_could_be_plainer:
            return False
        self._plain_will = self._will_on_trial = True
        return True

    def let_in(self, granted: Granted, protocol: str = "5") -> list[str]:
        """Note what a CONNACK grants; return what of it is new and worth a line."""
        news: list[str] = []
        if self._will_on_trial:
            self._will_on_trial = False
            self._ends = _ENDS - 1  # it takes one more to show that messages are like the will
            news.append(WILL)
        if protocol == "5":
            self._set(
                retains=self._wanted and granted.retain_available and not self._refused,
                maximum_qos=granted.maximum_qos,
            )
        known = [NO_RETAIN] if self._wanted and not granted.retain_available else []
        known += [NO_QOS] if not self.maximum_qos else []
        before, self._told = self._told, known
        return news + [one for one in known if one not in before]

    def granted_qos_0(self) -> list[str]:
        """Note that all subscriptions were granted at QoS 0 only, where CONNACK can't say so; return what is news."""
        if not self.maximum_qos:
            return []
        self._set(retains=self.retains, maximum_qos=0)
        self._plain_will = False  # at QoS 0 it may well be retained
        self._told = [*self._told, NO_QOS]
        return [NO_QOS]

    def refuse(self, reason: str) -> bool:
        """Note a reason code; return whether the next attempt leaves out what it is about."""
        before = self.retains, self.maximum_qos
        if reason.startswith(RETAIN):
            self._refused = True
            self._set(retains=False, maximum_qos=self.maximum_qos)
        elif reason.startswith(QOS):
            self._set(retains=self.retains, maximum_qos=0)
        return before != (self.retains, self.maximum_qos)

    def ended(self, *, retained: bool, taken: bool, confirmed: bool) -> str | None:
        """Note that the broker ended a connection without a reason; return what that shows, None for nothing.

        `retained` says that a retained message was unconfirmed, `taken` that one was confirmed, `confirmed` that
        any message was.
        """
        self._proven |= taken
        if self._on_trial:
            self._on_trial = False
            if not confirmed:
                self._refused = False
                self._set(retains=self._wanted, maximum_qos=self.maximum_qos)
                return NOT_THAT
        if self._proven or not retained:
            self._ends = 0
            return None
        self._ends += 1
        if self._ends < _ENDS:
            return None
        self._ends = 0
        self._refused = self._on_trial = True
        self._set(retains=False, maximum_qos=self.maximum_qos)
        return FOUND_OUT

    def _set(self, *, retains: bool, maximum_qos: int) -> None:
        self.retains, self.maximum_qos = retains, maximum_qos
        self.limited = not (retains and maximum_qos)

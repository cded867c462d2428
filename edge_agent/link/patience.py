"""How long a broker may keep us waiting, before it is given up.

Rules:

* only time spent waiting counts: what we took for work of our own, or were not given by the scheduler while we had some,
  is not the broker's fault;
* whatever it sends is a sign that it lives; a handshake goes on only by what belongs to it, or waited before it in the
  session.
"""

from __future__ import annotations

from typing import Final

#: From the TCP connection, or the last message from the session, to the granted subscriptions, in connect timeouts.
_HANDSHAKE: Final = 3.0


class Patience:
    """Times in seconds; those that are handed in are of any clock that never goes back."""

    def __init__(self, connect_timeout: float, keepalive: float, now: float) -> None:
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._handshake = 0.0  # waited since it began or went on
        self._late_taken = False
        self._next_ping = now + keepalive
        self._pinged: float | None = None  # waited since a ping that nothing came after

    @property
    def keepalive(self) -> float:
        """Seconds between two pings."""
        return self._keepalive

    def agree(self, keepalive: float, now: float) -> None:
        """Ping more often, where the broker wants that."""
        if keepalive < self._keepalive:
            self._keepalive = keepalive
            self._next_ping = min(self._next_ping, now + keepalive)

    def waited(self, seconds: float) -> None:
        """Count a wait."""
        self._handshake += seconds
        if self._pinged is not None:
            self._pinged += seconds

    def heard(self) -> None:
        """Note that the broker sent something, or took what had waited for it."""
        self._pinged = None

    def begin_handshake(self) -> None:
        """Note that a handshake begins or goes on."""
        self._handshake = 0.0

    def take_ping(self, now: float) -> bool:
        """Tell whether to send a ping, which is one every keep-alive, so that the broker hears from us as well."""
        if now < self._next_ping:
            return False
        self._next_ping = now + self._keepalive
        if self._pinged is None:
            self._pinged = 0.0
        return True

    def take_late(self) -> bool:
        """Tell, once a connection, whether a handshake takes longer than it should: worth a word."""
        if self._late_taken or self._handshake < self._connect_timeout:
            return False
        self._late_taken = True
        return True

    @property
    def handshake_failed(self) -> bool:
        """Whether the handshake takes too long."""
        return self._handshake >= self._connect_timeout * _HANDSHAKE

    @property
    def is_gone(self) -> bool:
        """Whether the broker sent nothing for a whole keep-alive after a ping."""
        return self._pinged is not None and self._pinged >= self._keepalive

"""Timeouts: how long to wait for a broker before giving up.

Rules:

* only time spent waiting counts: time for our own work, or while the scheduler did not run us, is not the broker's fault;
* any packet shows that the broker is alive; a handshake progresses only by its own packets, or by the backlog of the
  session.
"""

from __future__ import annotations

from typing import Final

#: Limit, in connect timeouts, from the TCP connection or the last message of the session's backlog to the granted
#: subscriptions.
_HANDSHAKE: Final = 3.0
#: Limit in seconds, if the keep-alive is not shorter, on the wait for the confirmation of one message.
_UNCONFIRMED: Final = 30.0


class Patience:
    """Tracks waiting times in seconds; times passed in are of any clock that never goes back."""

    def __init__(self, connect_timeout: float, keepalive: float, now: float) -> None:
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._handshake = 0.0  # waited since it began or progressed
        self._late_taken = False
        self._next_ping = now + keepalive
        self._pinged: float | None = None  # waited since a ping without any packet after it
        #: Seconds without a confirmation of the oldest unconfirmed message that are worth a warning.
        self.longest_unconfirmed = min(_UNCONFIRMED, keepalive)
        self._oldest: int | None = None
        self._unconfirmed = 0.0  # waited since the oldest unconfirmed message was looked at first
        self._unconfirmed_taken = False

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
        self._unconfirmed += seconds
        if self._pinged is not None:
            self._pinged += seconds

    def heard(self) -> None:
        """Note that the broker sent something, or accepted waiting bytes."""
        self._pinged = None

    def begin_handshake(self) -> None:
        """Note that a handshake begins or progresses."""
        self._handshake = 0.0

    def take_ping(self, now: float) -> bool:
        """Tell whether to send a ping: one per keep-alive, so that the broker hears from us, too."""
        if now < self._next_ping:
            return False
        self._next_ping = now + self._keepalive
        if self._pinged is None:
            self._pinged = 0.0
        return True

    def take_late(self) -> bool:
        """Tell, once per connection, whether a handshake is so slow that it is worth a warning."""
        if self._late_taken or self._handshake < self._connect_timeout:
            return False
        self._late_taken = True
        return True

    def take_unconfirmed(self, oldest: int | None) -> bool:
        """Tell, once per connection, whether a confirmation takes so long that it is worth a warning. `oldest` is the number
        of the message that waits longest for its confirmation, None when none does.
        """
        if oldest != self._oldest:
            self._oldest, self._unconfirmed = oldest, 0.0
        if oldest is None or self._unconfirmed_taken or self._unconfirmed < self.longest_unconfirmed:
            return False
        self._unconfirmed_taken = True
        return True

    @property
    def handshake_failed(self) -> bool:
        """Whether the handshake takes too long."""
        return self._handshake >= self._connect_timeout * _HANDSHAKE

    @property
    def is_gone(self) -> bool:
        """Whether the broker sent nothing for a whole keep-alive after a ping."""
        return self._pinged is not None and self._pinged >= self._keepalive

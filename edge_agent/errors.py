"""The one exception tree.

Whatever goes wrong at start ends as one of these: `str(error)` is one line that says what is wrong, where, and what to
do about it. The command line prints that line and exits with `exit_status`. Exceptions of other libraries never cross
the file that imports the library. What goes wrong with a single message is not an exception: it is a rejection
(`edge_agent.contract.messages.Rejection`), because it has to be answered.
"""

from __future__ import annotations

from typing import ClassVar


class EdgeAgentError(Exception):
    """Base of every error that a user can meet."""

    exit_status: ClassVar[int] = 2


class InputError(EdgeAgentError):
    """What the user handed in (a file, a table, an argument) is not usable."""


class FileError(EdgeAgentError):
    """A file that somebody named can't be used: it is not there, not readable, no file, or too large."""


class SettingsError(EdgeAgentError):
    """The configuration is wrong: an unknown key, a value out of range, routes that feed the agent its own output."""


class TopicError(SettingsError):
    """A topic template or filter is not valid."""


class ModelError(EdgeAgentError):
    """The model file can't be served: unreadable, no card, or a self-test that does not reproduce."""

    exit_status: ClassVar[int] = 3


class CardError(ModelError):
    """The model file carries no model card, or one that breaks the format."""


class BrokerError(EdgeAgentError):
    """The connection to the broker failed, was refused, or ended."""

    exit_status: ClassVar[int] = 4


class ProtocolRefusedError(BrokerError):
    """The broker does not speak the protocol version that was tried."""


class AdaptedError(BrokerError):
    """The broker refused something that the next attempt leaves out."""


class FarewellError(BrokerError):
    """The broker ended the connection and gave a reason that has nothing to do with what was sent: a shutdown, say."""


class SurplusError(BrokerError):
    """The broker sent more than can be held; what was taken is settled, the rest comes on the next connection."""


class NoAnswerError(BrokerError):
    """The broker is there, but the agent that was asked does not answer."""

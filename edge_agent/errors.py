"""All exception classes.

Any problem at start raises one of these: `str(error)` is one line with the cause, the place and the fix.
do about it. The command line prints that line and exits with `exit_status`. Exceptions of other libraries never cross
the file that imports the library. What goes wrong with a single message is not an exception: it is a rejection
(`edge_agent.contract.messages.Rejection`), because it has to be answered.
"""

from __future__ import annotations

from typing import ClassVar


class EdgeAgentError(Exception):
    """Base of all errors that are shown to users."""

    exit_status: ClassVar[int] = 2


class InputError(EdgeAgentError):
    """The user's input (a file, a table, an argument) can't be used."""


class FileError(EdgeAgentError):
    """A named file can't be used: it does not exist, is not readable, not a regular file, or too large."""


class SettingsError(EdgeAgentError):
    """The configuration is invalid: an unknown key, a value out of range, routes that feed the agent its own output."""


class TopicError(SettingsError):
    """A topic template or filter is not valid."""


class ModelError(EdgeAgentError):
    """The model file can't be served: unreadable, without a card, or the self-test fails."""

    exit_status: ClassVar[int] = 3


class CardError(ModelError):
    """The model file has no model card, or an invalid one."""


class TrustError(ModelError):
    """A model, or what is said of one, is not what its signature, its manifest or the trusted keys say it should be."""


class CutShortError(ModelError):
    """The system ended the process in which a model or a message was examined, most likely for want of memory: it may pass another time."""


class StoreError(ModelError):
    """The store of models can't do what was asked: no such version, nothing to go back to, something that is not ours in its place."""


class StoreBusyError(StoreError):
    """Another process is changing the store: try again."""


class ExplainError(ModelError):
    """The answers of this model can't be explained in the way that is asked for."""


class BrokerError(EdgeAgentError):
    """The connection to the broker failed, was refused, or ended."""

    exit_status: ClassVar[int] = 4


class ProtocolRefusedError(BrokerError):
    """The broker does not speak the protocol version that was tried."""


class AdaptedError(BrokerError):
    """The broker refused something that the next attempt leaves out."""


class NarrowedError(BrokerError):
    """The broker ended the connection, perhaps over a subscription: the next attempt may tell. `nearer`: that is more than a guess
    by now, so there is no need to wait. `found`: it is known which one it was.
    """

    def __init__(self, words: str, *, nearer: bool, found: bool) -> None:
        super().__init__(words)
        self.nearer = nearer
        self.found = found


class FarewellError(BrokerError):
    """The broker ended the connection for a reason unrelated to our messages, such as a shutdown."""


class SurplusError(BrokerError):
    """The broker sent more than can be held; the rest is redelivered on the next connection."""


class NoAnswerError(BrokerError):
    """The broker is reachable, but the agent does not answer."""

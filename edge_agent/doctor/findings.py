"""What an examination finds: one thing each, with what mends it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from edge_agent.errors import EdgeAgentError, ModelError, SettingsError

Verdict = Literal["ok", "note", "fail"]

#: What has an exit status of its own when it fails; everything else ends with 1.
_EXIT_STATUS: Final = {
    "configuration": SettingsError.exit_status,
    "fields": SettingsError.exit_status,
    "model": ModelError.exit_status,
}


class Finding(NamedTuple):
    """What was looked at, how it is, and the command or setting that mends it."""

    verdict: Verdict
    what: str
    message: str
    mend: str | None = None

    @property
    def exit_status(self) -> int:
        """What `edge-agent check` ends with when this is the worst that it finds."""
        return _EXIT_STATUS.get(self.what, 1) if self.verdict == "fail" else 0


def ok(what: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", what, message)


def note(what: str, message: str, mend: str | None = None) -> Finding:
    """It works, but is worth knowing."""
    return Finding("note", what, message, mend)


def fail(what: str, message: str, mend: str | None = None) -> Finding:
    """Something has to be done."""
    return Finding("fail", what, message, mend)


def failed(what: str, error: EdgeAgentError) -> Finding:
    """Something went wrong. The last clause of our errors says what to do (edge_agent.errors)."""
    message, _, mend = str(error).rpartition("; ")
    return fail(what, message, mend) if message else fail(what, mend)

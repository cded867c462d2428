"""What an examination finds: one thing each, with what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple, get_args

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


def looked_at(what: str, found: Iterable[Finding], mend: str | None = None) -> Iterator[Finding]:
    """Pass on what is found; where looking itself fails, say so, and let the rest go on.

    What is looked at belongs to the machine and to other users: it may be gone, or be closed to us, at any moment.
    """
    try:
        yield from found
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        yield note(what, f"{place}can't be looked at: {error.strerror or error}", mend)


def from_json(told: Any) -> Finding:
    """Return a finding that came as JSON. Raises `ValueError` when it is none."""
    if not isinstance(told, dict) or told.keys() != set(Finding._fields) or told["verdict"] not in get_args(Verdict):
        raise ValueError("not a finding")
    return Finding(**told)

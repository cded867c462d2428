"""Findings: each has a verdict, a message and, for a problem, its fix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple, get_args

from edge_agent.errors import EdgeAgentError, ModelError, SettingsError

Verdict = Literal["ok", "note", "fail"]

#: Findings whose failure has its own exit status; all others give 1.
_EXIT_STATUS: Final = {
    "configuration": SettingsError.exit_status,
    "fields": SettingsError.exit_status,
    "model": ModelError.exit_status,
}


class Finding(NamedTuple):
    """What was checked, the result, and the command or setting that fixes it (`mend`)."""

    verdict: Verdict
    what: str
    message: str
    mend: str | None = None

    @property
    def exit_status(self) -> int:
        """The exit status of `edge-agent check` when this is its worst finding."""
        return _EXIT_STATUS.get(self.what, 1) if self.verdict == "fail" else 0


def ok(what: str, message: str) -> Finding:
    """Return a finding: no problem."""
    return Finding("ok", what, message)


def note(what: str, message: str, mend: str | None = None) -> Finding:
    """Return a finding: it works, but is worth knowing."""
    return Finding("note", what, message, mend)


def fail(what: str, message: str, mend: str | None = None) -> Finding:
    """Return a finding: a problem that must be fixed."""
    return Finding("fail", what, message, mend)


def failed(what: str, error: EdgeAgentError) -> Finding:
    """Return a finding for an error. The last clause of our errors gives the fix (edge_agent.errors)."""
    message, _, mend = str(error).rpartition("; ")
    return fail(what, message, mend) if message else fail(what, mend)


def looked_at(what: str, found: Iterable[Finding], mend: str | None = None) -> Iterator[Finding]:
    """Pass on findings; report a check that fails itself, so that the others go on.

    Checks read files of the machine and of other users, which may vanish or be inaccessible at any moment.
    """
    try:
        yield from found
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        yield note(what, f"{place}can't be checked: {error.strerror or error}", mend)


def from_json(told: Any) -> Finding:
    """Return a finding read from JSON. Raises `ValueError` when it is not one."""
    if not isinstance(told, dict) or told.keys() != set(Finding._fields) or told["verdict"] not in get_args(Verdict):
        raise ValueError("not a finding")
    return Finding(**told)

"""Whether the user that we run as can access the files and the socket that a configuration names.

To be run as the service: its user may not read all that root may, and its sandbox hides whole directories. Other
problems of a file are found by the code that reads it.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from edge_agent.config.settings import Settings
from edge_agent.doctor.advice import Advice
from edge_agent.doctor.findings import Finding, fail, note
from edge_agent.host.files import exposed
from edge_agent.model.shelf import CURRENT

#: Directories that a sandbox hides (systemd.exec(5)) -> the setting of the unit that hides them.
_HIDDEN: Final = {
    Path("/home"): "ProtectHome",
    Path("/root"): "ProtectHome",
    Path("/run/user"): "ProtectHome",
    Path("/tmp"): "PrivateTmp",  # noqa: S108 - a name to compare with
    Path("/var/tmp"): "PrivateTmp",  # noqa: S108
}
#: Settings whose files are secrets -> the credential that can replace each.
_SECRETS: Final = {"mqtt.password_file": "mqtt-password", "mqtt.tls.key": "mqtt-key"}

#: Tells whether the user that we run as has an access right (R_OK, W_OK, X_OK) to a path; raises `OSError` where it does
#: not exist.
May = Callable[[Path, int], bool]


class Barrier(NamedTuple):
    """The directory or file that blocks access, and how."""

    at: Path
    how: Literal["may not enter", "may not read", "may not write to", "does not see"]


def may(path: Path, how: int) -> bool:
    """Ask the kernel, as the user that we run as. Raises `OSError` for other problems with `path`."""
    if os.access(path, how, effective_ids=True):
        return True
    if how == os.X_OK and not stat.S_ISDIR(path.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    path.stat()
    return False


def barrier(path: Path, *, how: int = os.R_OK, may: May = may) -> Barrier | None:
    """Return what blocks our access to `path`; None when nothing does, or when the problem is another one."""
    real = Path(os.path.realpath(path))
    try:
        for directory in reversed(real.parents):
            if not may(directory, os.X_OK):
                return Barrier(directory, "may not enter")
        if not may(real, how):
            return Barrier(real, "may not read" if how == os.R_OK else "may not write to")
    except FileNotFoundError:
        return Barrier(real, "does not see") if hiding(real) else None
    except OSError:
        return None
    return None


def check_connection_files(loaded: Settings, advice: Advice, *, may: May = may) -> Iterator[Finding]:
    """Check the connection's files that are set: one finding for each that can't be accessed."""
    mqtt = loaded.mqtt
    named = {"mqtt.password_file": mqtt.password_file}
    if mqtt.tls is not None and mqtt.uses_tls:
        named |= {
            "mqtt.tls.ca": mqtt.tls.ca,
            "mqtt.tls.certificate": mqtt.tls.certificate,
            "mqtt.tls.key": mqtt.tls.key,
        }
    for setting, path in named.items():
        if path is not None and (found := barrier(path, may=may)) is not None:
            yield fail(
                "configuration",
                f"{setting}: {path}: {explain_barrier(found)}",
                _mend_file(setting, path, found, advice),
            )
    if mqtt.transport == "unix" and mqtt.socket is not None:
        found = barrier(mqtt.socket, how=os.W_OK, may=may)
        if found is not None:
            yield fail("broker", f"mqtt.socket: {mqtt.socket}: {explain_barrier(found)}", _mend_socket(found, advice))


def explain_configuration(config: Path, *, may: May = may) -> Finding | None:
    """Return why the configuration itself can't be read; None when it can."""
    found = barrier(config, may=may)
    if found is None:
        return None
    mend = f"it holds no secrets: sudo chmod a+{'r' if found.how == 'may not read' else 'x'} {_quoted(found.at)}"
    return fail("configuration", f"{config}: {explain_barrier(found)}", mend)


def check_secrets(loaded: Settings, advice: Advice) -> Iterator[Finding]:
    """Check whether others may read the agent's secrets."""
    for setting, path in loaded.mqtt.secrets().items():
        wrong = exposed(path)
        if wrong is not None:
            said, _, mend = wrong.rpartition("; ")
            # A file that only root may read is closed to the service, too.
            yield note(
                "secrets", f"{setting}: {said}", mend if advice.unit is None else _as_credential(setting, path, advice)
            )


def explain_model(name: str, path: Path, *, may: May = may) -> Finding | None:
    """Return why a model's file can't be accessed; None when it can, or does not exist."""
    found = barrier(path, may=may)
    if found is None:
        return None
    if path.name == CURRENT:
        mend = f"sudo chown -R --reference={_quoted(path.parent.parent)} {_quoted(path.parent)}"
    elif found.how == "may not read":
        mend = f"sudo chmod a+r {_quoted(found.at)}"
    else:
        mend = (
            f"sudo install -D -m 644 {_quoted(path)} /var/lib/edge-agent/models/{_quoted(path.name)}; "
            f'then in the configuration: model = "{path.stem}"'
        )
    named = "" if name == str(path) else f"{name}: "
    return fail("model", f"{named}{path}: {explain_barrier(found)}", mend)


def explain_barrier(found: Barrier) -> str:
    """Return a barrier in words."""
    hidden = hiding(found.at)
    if found.how == "does not see":
        return f"the service does not see it: its sandbox has its own {hidden[0] if hidden else found.at}"
    closed = f"the service's user {found.how} " + ("it" if found.how != "may not enter" else str(found.at))
    if hidden and found.how == "may not enter":
        return f"{closed}, which its sandbox hides ({hidden[1]})"
    return closed


def _mend_file(setting: str, path: Path, found: Barrier, advice: Advice) -> str:
    if setting in _SECRETS:
        return _as_credential(setting, path, advice)
    if found.how == "may not read":
        return f"it is not a secret: sudo chmod a+r {_quoted(path)}"
    return f"it is not a secret: sudo install -m 644 {_quoted(path)} /etc/edge-agent/, and set {setting} to the copy"


def _as_credential(setting: str, path: Path, advice: Advice) -> str:
    # The file must not be readable by all, and the service's user (DynamicUser) can't own files before the service runs.
    return (
        f"make it a credential of the service: sudo install -D -m 600 {_quoted(path)} "
        f"{advice.credential(_SECRETS[setting])}; then remove {setting.rpartition('.')[2]} from the configuration, "
        f"and: {advice.restart}"
    )


def _mend_socket(found: Barrier, advice: Advice) -> str:
    if hiding(found.at):
        return (
            "have the broker create its socket elsewhere (docs/security.md, on the same machine); set mqtt.socket to it"
        )
    right = "enter it (g+x)" if found.how == "may not enter" else "write to it (g+w)"
    return (
        f"add the service to the group that ls -ld {_quoted(found.at)} shows, which must be allowed to {right}: "
        f"sudo systemctl edit {advice.unit or 'edge-agent'}, below [Service]: SupplementaryGroups=GROUP; then: "
        f"{advice.restart} (docs/security.md, on the same machine)"
    )


def hiding(path: Path) -> tuple[Path, str] | None:
    """Return what a sandbox hides of a path, and the setting that does it."""
    return next(((top, setting) for top, setting in _HIDDEN.items() if path.is_relative_to(top)), None)


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))

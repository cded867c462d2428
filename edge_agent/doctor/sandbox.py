"""The service's own view: runs a command as the service's unit would run the agent.

Rules:

* The unit is used as installed, with its drop-ins (`systemctl cat`), and systemd itself applies user, sandbox,
  credentials, limits and environment. None of it is repeated here.
* It is copied for a moment, under another name, to /run/systemd/system, so the running service is not disturbed. The
  copy of an instance has the same instance name, so that %i, and with it the names of credentials, stay the same.
* Only the settings that start and stop the service are changed in the copy, by a section at its end. The [Unit] section
  is left out, so nothing else is started or waited for.
* A failure is returned as a reason (`Blind`), never raised.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

#: Directory for units that last until the next boot.
_UNITS: Final = Path("/run/systemd/system")
_RUN: Final = Path("/run")
#: Seconds that the command may take: it may look up names and wait for a silent broker several times.
_LONGEST: Final = 180
#: Bytes read of the command's output.
_MAX_BYTES: Final = 1 << 22
#: Exit statuses from here on are systemd's own: the sandbox could not be set up (systemd.exec(5)).
_SYSTEMD_S_OWN: Final = 200

_SECTION: Final = re.compile(r"\[(\w+)\]")
_START: Final = re.compile(r"(?P<program>[@\-:+!|]*\S+) +run(?P<arguments>( .*)?)")

_CHANGED: Final = """
[Service]
Type=oneshot
RemainAfterExit=no
Restart=no
WatchdogSec=0
NotifyAccess=none
TimeoutStartSec={longest}
TimeoutStopSec=5
ExecCondition=
ExecStartPre=
ExecStart=
ExecStartPost=
ExecReload=
ExecStop=
ExecStopPost=
ExecStart={command}
StandardInput=null
StandardOutput=truncate:{directory}/out
StandardError=truncate:{directory}/err
# Those of the running service: as its own, the copy would move them out of sight (DynamicUser=) or remove them at its end.
RuntimeDirectory=
"""
#: What stands for a directory of the running service's in memory; it may not be there.
_RUNTIME = """
ReadWritePaths=-%t/{name}
Environment=RUNTIME_DIRECTORY=%t/{name}"""


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str


class Blind(NamedTuple):
    """Why the command could not run. `broken`: with this unit the service could not start either."""

    reason: str
    broken: bool = False


#: Calls systemctl with arguments and a timeout in seconds. Raises `OSError` or `subprocess.SubprocessError`.
Systemctl = Callable[[tuple[str, ...], float], Done]


def systemctl(arguments: tuple[str, ...], timeout: float) -> Done:
    """Call the real systemctl."""
    done = subprocess.run(  # noqa: S603 - fixed commands, no shell
        ("systemctl", *arguments),  # noqa: S607 - as everywhere, by PATH
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_inside(
    unit: str, command: str, *, call: Systemctl = systemctl, units: Path = _UNITS, run: Path = _RUN
) -> str | Blind:
    """Run `edge-agent COMMAND` as `unit` runs the agent, with the same options; return its output."""
    try:
        told = call(("cat", f"{unit}.service"), 10)
        if told.status:
            return Blind(_last_line(told.err) or "systemctl does not show the unit")
        with tempfile.TemporaryDirectory(prefix="edge-agent-check-", dir=run) as directory:
            copy = copy_of(unit, told.out, command, directory)
            return copy if isinstance(copy, Blind) else _start(unit, copy, Path(directory), call, units)
    except (OSError, subprocess.SubprocessError) as error:
        return Blind(str(error))


def copy_of(unit: str, text: str, command: str, directory: str) -> str | Blind:
    """Return the text of a unit that runs `command` as the unit with this `text` would run the agent."""
    lines = list(_service_lines(text))
    start = _START.fullmatch(_last(lines, "ExecStart"))
    if start is None:
        return Blind(f"ExecStart of {unit} does not run the agent itself")
    if not _last(lines, "User") and _last(lines, "DynamicUser").lower() in {"yes", "true", "on", "1"}:
        # systemd would give the service's directories to the user of the copy.
        return Blind(f"{unit} has DynamicUser, but no User")
    changed = _CHANGED.format(
        longest=_LONGEST, directory=directory, command=f"{start['program']} {command}{start['arguments']}"
    )
    changed += "".join(_RUNTIME.format(name=name) for name in reversed(_last(lines, "RuntimeDirectory").split()))
    head = f"# Written by edge-agent check; temporary.\n[Unit]\nDescription=edge-agent check, as {unit}\n\n[Service]"
    return "\n".join([head, *(_specific(line, unit) for line in lines), _specific(changed, unit)])


def _start(unit: str, copy: str, directory: Path, call: Systemctl, units: Path) -> str | Blind:
    prefix, at, instance = unit.partition("@")
    ours = f"{prefix}-check-{os.getpid()}"
    file, name = units / f"{ours}{at}.service", f"{ours}{at}{instance}.service"
    try:
        file.write_text(copy)
        started = call(("start", name), _LONGEST + 20)
        if started.status:
            return _why(name, started, directory, call)
        with (directory / "out").open("rb") as out:
            return out.read(_MAX_BYTES).decode(errors="replace")
    finally:
        # Always clean up; each step is ignored where there is nothing to do.
        file.unlink(missing_ok=True)
        for words in (("stop", name), ("reset-failed", name)):
            call(words, 20)


def _why(name: str, started: Done, directory: Path, call: Systemctl) -> Blind:
    shown = call(("show", "--property", "Result,ExecMainCode,ExecMainStatus", name), 10).out
    told = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    status = int(told["ExecMainStatus"]) if told.get("ExecMainStatus", "").isdecimal() else 0
    if told.get("Result") == "exit-code" and status >= _SYSTEMD_S_OWN:
        said = re.search(
            rf"^.*\b{status}/(\w+)", call(("status", "--no-pager", "--lines=0", name), 10).out, re.MULTILINE
        )
        return Blind(f"systemd can't set it up: {status}" + (f"/{said[1]}" if said else ""), broken=True)
    try:
        with (directory / "err").open("rb") as err:
            last = _last_line(err.read(_MAX_BYTES).decode(errors="replace"))
    except OSError:
        last = ""
    return Blind(f"{told.get('Result') or 'it did not start'}: {last or _last_line(started.err)}")


def _service_lines(text: str) -> Iterator[str]:
    """Yield the lines of all [Service] sections; lines continued with a backslash are joined."""
    section = ""
    for line in re.sub(r"\\\n\s*", " ", text).split("\n"):
        stripped = line.strip()
        if found := _SECTION.fullmatch(stripped):
            section = found[1]
        elif section == "Service" and stripped and stripped[0] not in "#;":
            yield stripped


def _last(lines: list[str], key: str) -> str:
    """Return the effective value of a setting: the last one."""
    values = [value.strip() for name, _, value in (line.partition("=") for line in lines) if name.strip() == key]
    return values[-1] if values else ""


def _specific(line: str, unit: str) -> str:
    """Replace the specifiers for the unit's name, which would give the copy's name."""
    names = {"n": f"{unit}.service", "N": unit, "p": unit.partition("@")[0], "P": unit.partition("@")[0]}
    return re.sub(r"%(.)", lambda found: names.get(found[1], found[0]), line)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].strip()

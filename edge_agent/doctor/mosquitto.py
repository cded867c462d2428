"""The access rules of a Mosquitto on this machine, read from its files.

Mosquitto grants every subscription, then silently drops what its ACL forbids; and the agent's user, rightly, may not
write to its inputs. So from outside a missing rule looks like a silent sensor. Where the broker runs on this machine,
root can read the rules. Sources: mosquitto.conf(5), and src/security_default.c of Mosquitto 2.0.

Rules:

* The files are read from the broker process's own root (/proc/PID/root), so that a container's broker works too.
* Uncertain cases give no finding: several brokers, plugins that decide, users by certificate, another port.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent import assembly
from edge_agent.config.settings import Settings
from edge_agent.contract import topics
from edge_agent.doctor.findings import Finding, fail, note, ok
from edge_agent.routing.routes import Route

_MAX_BYTES: Final = 1 << 20
_ACCESS: Final = frozenset({"read", "write", "readwrite", "deny"})
#: Settings that make something else than the file decide, or that replace the user name of the login.
_ELSEWHERE: Final = ("plugin", "auth_plugin", "global_plugin", "use_identity_as_username", "use_subject_as_username")
_DEFAULT_PORT: Final = 1883


class Client(NamedTuple):
    """The client to check; `username` is None for an anonymous login."""

    username: str | None
    client_id: str


class Rule(NamedTuple):
    """One line that applies to a client: the access to a topic filter, "deny" for none."""

    access: str
    filter: str


def check_rules(loaded: Settings, routes: Sequence[Route], root: Path = Path("/")) -> Iterator[Finding]:
    """Check whether the rules let the agent read what it subscribes to; no findings where the rules are not known."""
    found = _rules_file(loaded, root)
    if found is None:
        return
    file, seen_at = found
    client = Client(loaded.mqtt.username, assembly.address(loaded).client_id)
    rules = list(rules_for(_text(seen_at), client))
    who = "an anonymous client" if client.username is None else f"user {client.username}"
    below = "above the first user line of" if client.username is None else f"below the line user {client.username} in"
    wanted = [
        topics.request(loaded.node.id).filter,
        *(source.subscribe.filter for route in routes for source in route.listens),
        *([f"{topics.ROOT}/{topics.FLEET}/{loaded.update.channel}/#"] if loaded.update.channel else []),
    ]
    for one in dict.fromkeys(wanted):
        covered = reads(rules, one)
        if covered == "all":
            yield ok("rules", f"{file}: {who} may read {one}")
            continue
        said = f"{file}: {who} may read {'nothing' if covered == 'none' else 'only a part'} of {one}"
        mend = f"add, {below} {file}: topic read {one}; then: sudo systemctl restart mosquitto"
        yield fail("rules", said, mend) if covered == "none" else note("rules", said, mend)


def rules_for(text: str, client: Client) -> Iterator[Rule]:
    """Yield the rules of an acl_file that apply to a client."""
    user: str | None = None
    for line in text.splitlines():
        key, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if key == "user":
            user = rest
        elif key == "topic" and user == client.username:
            yield _rule(rest)
        elif key == "pattern" and not ("%u" in rest and client.username is None):
            yield _rule(rest.replace("%c", client.client_id).replace("%u", client.username or ""))


def reads(rules: Iterable[Rule], wanted: str) -> str:
    """Return how much of a topic filter the rules let the client read: "all", "some" or "none"."""
    denied = [rule.filter for rule in rules if rule.access == "deny"]
    allowed = [rule.filter for rule in rules if rule.access in {"read", "readwrite"}]
    if any(_covers(one, wanted) for one in denied) or not any(_overlap(one, wanted) for one in allowed):
        return "none"
    whole = any(_covers(one, wanted) for one in allowed) and not any(_overlap(one, wanted) for one in denied)
    return "all" if whole else "some"


def _rule(text: str) -> Rule:
    access, _, rest = text.partition(" ")
    return Rule(access, rest.strip()) if access in _ACCESS and rest.strip() else Rule("readwrite", text)


def _covers(rule: str, wanted: str) -> bool:
    """Tell whether `rule` matches every topic that `wanted` matches."""
    ours, theirs = rule.split("/"), wanted.split("/")
    for place, level in enumerate(ours):
        if place == 0 and level in {"+", "#"} and theirs[0].startswith("$"):
            return False  # as in `_overlap`
        if level == "#":
            return True
        if place >= len(theirs) or theirs[place] == "#" or (level != "+" and level != theirs[place]):
            return False
    return len(ours) == len(theirs)


def _overlap(one: str, other: str) -> bool:
    """Tell whether some topic matches both filters."""
    ours, theirs = one.split("/"), other.split("/")
    for place in range(max(len(ours), len(theirs))):
        left, right = (levels[place] if place < len(levels) else None for levels in (ours, theirs))
        if place == 0 and "$" in {level[:1] for level in (left, right) if level} and left != right:
            return False  # MQTT 5, 4.7.2: a wildcard at the front does not match the server's own topics
        if "#" in (left, right):
            return True
        if left is None or right is None or ("+" not in (left, right) and left != right):
            return False
    return True


# -- where the rules are


def _rules_file(loaded: Settings, root: Path) -> tuple[Path, Path] | None:
    """Return the acl_file of the Mosquitto here that we log in to: its name, and where we can read it."""
    mqtt = loaded.mqtt
    if mqtt.transport != "unix" and mqtt.host not in {"localhost", "127.0.0.1", "::1", os.uname().nodename}:
        return None
    processes = list(_processes(root))
    if len(processes) != 1:
        return None
    own_root, configuration = processes[0]
    settings = list(_settings(own_root, configuration))
    if configuration is None or any(key in _ELSEWHERE and value != "false" for key, value in settings):
        return None
    listener = str(mqtt.socket) if mqtt.transport == "unix" else str(mqtt.actual_port)
    name = _acl_file(settings, listener)
    return None if name is None else (Path(name), _below(own_root, Path(name)))


def _acl_file(settings: Sequence[tuple[str, str]], listener: str) -> str | None:
    """Return the acl_file of a listener, named by its port or its socket; None where it is not known."""
    each = ("per_listener_settings", "true") in settings
    at, seen, found = str(_DEFAULT_PORT), set[str](), dict[str, str]()
    for key, value in settings:
        if key == "listener":
            port, *where = value.split()
            at = where[0] if port == "0" and where else port
            seen.add(at)
        elif key == "port":
            at = value
            seen.add(at)
        elif key == "acl_file":
            found[at if each else ""] = value
    if listener not in (seen or {str(_DEFAULT_PORT)}):
        return None
    return found.get(listener if each else "")


def _processes(root: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield the root directory and the configuration of each Mosquitto that runs here."""
    for process in sorted((root / "proc").glob("[0-9]*")):
        try:
            if (process / "comm").read_text().strip() != "mosquitto":
                continue
            words = [os.fsdecode(word) for word in (process / "cmdline").read_bytes().split(b"\0")]
        except OSError:  # it has ended
            continue
        named = words[words.index("-c") + 1] if "-c" in words[:-1] else None
        yield process / "root", None if named is None else Path(named)


def _settings(root: Path, file: Path | None) -> Iterator[tuple[str, str]]:
    """Yield the settings of a configuration file and of the files it includes. Raises `OSError`."""
    for line in _text(_below(root, file)).splitlines() if file is not None else ():
        key, _, value = line.strip().partition(" ")
        if key == "include_dir":
            for other in sorted(_below(root, Path(value.strip())).glob("*.conf")):
                yield from _settings(root, Path("/") / other.relative_to(root))
        elif key and not key.startswith("#"):
            yield key, value.strip()


def _below(root: Path, path: Path) -> Path:
    return root / str(path).lstrip("/")


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES).decode(errors="replace")

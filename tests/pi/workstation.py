"""Ansible on the workstation, and its way into a machine of the tests: a real sshd, on a network with nobody else in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.pi.machine import ROOT, Machine
from tests.requirements import lacking

DEPLOY: Final = ROOT / "deploy/ansible"
#: What a Raspberry Pi has that Ansible stands on: a log-in, a way to become root, and Python's way to ask apt.
LOGS_IN: Final = ("openssh-server", "python3-apt", "sudo")
_PROGRAMS: Final = ROOT / ".venv-ansible/bin"
_USER: Final = "pi"
#: Connects, and hands the connection to ssh (ssh_config(5), ProxyUseFdpass).
_CONNECT: Final = """
import socket
connection = socket.create_connection(("127.0.0.1", 22))
socket.send_fds(socket.socket(fileno=1), [b"."], [connection.fileno()])
"""


class Play(NamedTuple):
    """What came of one run of the playbook."""

    status: int
    printed: str
    changed: int

    def fine(self) -> Play:
        """Return itself; fails when the play did."""
        assert self.status == 0, self.printed[-5000:]
        return self


def program(name: str) -> Path:
    """Return the path of one of Ansible's programs."""
    if shutil.which("ssh") is None:
        lacking("ssh is missing: sudo apt install openssh-client")
    found = _PROGRAMS / name
    if not found.exists():
        lacking(f"{found} is missing; scripts/test --pi installs it")
    return found


def environment(directory: Path) -> dict[str, str]:
    """Return an environment in which Ansible's programs leave the user's own files alone."""
    return {
        "PATH": f"{_PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(directory),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(DEPLOY / "ansible.cfg"),
        # No connection outlives the play.
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",
    }


class Workstation:
    """Runs the playbook of deploy/ansible on one machine, with a key, known hosts and an inventory of its own."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._playbook = program("ansible-playbook")
        self._machine = machine
        self._directory = directory
        self._let_in()
        connect = directory / "connect.py"
        connect.write_text(_CONNECT)
        proxy = ["nsenter", "--target", str(machine.leader), "--net", "--", sys.executable, str(connect)]
        (directory / "ssh_config").write_text(
            f"Host {machine.name}\n"
            f"HostName 127.0.0.1\nHostKeyAlias {machine.name}\nUser {_USER}\n"
            f"IdentityFile {directory}/key\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {directory}/known_hosts\nStrictHostKeyChecking yes\n"
            f"ProxyUseFdpass yes\nProxyCommand {shlex.join(proxy)}\n"
        )
        (directory / "inventory.ini").write_text(
            f"[edge_agents]\n{machine.name} ansible_ssh_common_args='-F {directory}/ssh_config'\n"
        )

    def _let_in(self) -> None:
        """Make a user in the machine that may become root, as Raspberry Pi OS has it, and a key to log in with."""
        machine, key = self._machine, self._directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        machine.run("useradd", "--create-home", "--shell", "/bin/bash", _USER)
        machine.write(f"/etc/sudoers.d/{_USER}", f"{_USER} ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
        machine.run("install", "-d", "-m", "0700", "-o", _USER, "-g", _USER, f"/home/{_USER}/.ssh")
        authorised = f"/home/{_USER}/.ssh/authorized_keys"
        machine.write(authorised, key.with_suffix(".pub").read_text(), mode=0o644)
        its = Path(machine.directory, "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        (self._directory / "known_hosts").write_text(f"{machine.name} {its[0]} {its[1]}\n")
        # Only now is there a network for it to listen on.
        machine.run("systemctl", "restart", "ssh")

    def play(self, *options: str, **variables: Any) -> Play:
        """Run the playbook with these variables of the role, without the prefix edge_agent_."""
        chosen = self._directory / "variables.json"
        chosen.write_text(json.dumps({f"edge_agent_{name}": value for name, value in variables.items()}))
        ran = subprocess.run(
            [self._playbook, "-i", self._directory / "inventory.ini", "-e", f"@{chosen}", *options, "site.yml"],
            cwd=DEPLOY,
            env=environment(self._directory),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        printed = ran.stdout + ran.stderr
        recap = re.search(r"changed=(\d+)", ran.stdout)
        assert recap is not None, printed[-3000:]
        return Play(ran.returncode, printed, int(recap[1]))

"""Control groups for a process: as much memory, and as much of a processor, as a small Pi has to give.

With version 2 of them (one tree) or version 1 (one for each controller), as root, and where the kernel lets us. `Budget`
says in `lacking` what could not be limited, for a test to say.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_ROOT: Final = Path("/sys/fs/cgroup")
_PERIOD: Final = 100_000  # microseconds
#: Puts itself into the groups named before "--", and becomes the command after it.
_ENTER: Final = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'


class Budget:
    """`with Budget(memory=128 << 20, cores=0.25) as budget:` has `budget.wrapper` to put before a command."""

    def __init__(self, *, memory: int, cores: float) -> None:
        self.memory = memory
        self.cores = cores
        self._groups: list[Path] = []
        self.lacking: list[str] = []
        self._name = f"edge-agent-{os.getpid()}"

    def __enter__(self) -> Self:
        quota = str(int(self.cores * _PERIOD))
        if (_ROOT / "cgroup.controllers").exists():
            self._limit("memory", _ROOT, {"memory.max": str(self.memory), "memory.swap.max": "0"})
            self._limit("processor", _ROOT, {"cpu.max": f"{quota} {_PERIOD}"})
        else:
            self._limit("memory", _ROOT / "memory", {"memory.limit_in_bytes": str(self.memory)})
            self._limit("processor", _ROOT / "cpu", {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": quota})
        return self

    def _limit(self, what: str, parent: Path, settings: dict[str, str]) -> None:
        group = parent / self._name
        try:
            group.mkdir(exist_ok=True)
            for file, value in settings.items():
                # Swap is not accounted for everywhere, and where it is not there is none to forbid.
                if file != "memory.swap.max" or (group / file).exists():
                    (group / file).write_text(value)
        except OSError as error:
            self.lacking.append(f"{what} is not limited here: {error}")
            return
        if group not in self._groups:
            self._groups.append(group)

    @property
    def wrapper(self) -> list[str]:
        if not self._groups:
            return []
        return [shutil.which("sh") or "/bin/sh", "-c", _ENTER, "sh", *map(str, self._groups), "--"]

    def held_back(self) -> int:
        """In how many periods the processor's share was used up."""
        files = (group / "cpu.stat" for group in self._groups)
        lines = [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]
        return sum(int(value) for name, value in lines if name == "nr_throttled")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for group in self._groups:
            for process in (group / "cgroup.procs").read_text().split():
                (group.parent / "cgroup.procs").write_text(process)
            group.rmdir()

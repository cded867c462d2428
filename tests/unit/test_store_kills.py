"""As tests/unit/test_store_crashes.py, without its seam: strace kills a process at each system call that changes something on a disk."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.unit.store_changes import CASES, Case

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

#: All that changes files on Linux, of which a change may make any; what is not known on a machine is left out ("?").
CALLS = (
    "?write,?pwrite64,?writev,?fsync,?fdatasync,?sync_file_range,?rename,?renameat,?renameat2,?mkdir,?mkdirat,?symlink,?symlinkat,?link,"
    "?linkat,?unlink,?unlinkat,?rmdir,?chmod,?fchmod,?fchmodat,?chown,?fchown,?fchownat,?lchown,?utimensat,?truncate,?ftruncate,?fallocate,"
    "?copy_file_range,?sendfile"
)
PROGRAM = """
import sys
from pathlib import Path
from tests.unit.store_changes import CASES
from edge_agent.model.store import Store
CASES[sys.argv[2]][1](Store(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("name", ["add", "use", "rollback", "remove-all", "prune", "write", "add-part"])
def test_a_process_that_is_killed_at_each_system_call(name: str, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    case = Case(tmp_path, *CASES[name])

    def run(directory: Path, *options: str) -> tuple[int, str]:
        log = tmp_path / "log"
        program = [sys.executable, "-c", PROGRAM, str(directory), name]
        done = subprocess.run(
            ["strace", "-f", "-o", str(log), "-e", f"trace={CALLS}", *options, *program],
            capture_output=True,
            check=False,
        )
        return done.returncode, log.read_text()

    directory = case.copy()
    status, log = run(directory)
    if status and "ptrace" in log:
        pytest.skip("strace may not trace here")
    assert status == 0, log
    case.expect(directory, "done")
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", log, flags=re.MULTILINE))
    assert calls["fsync"] >= 1, log
    killed = 0
    for call, times in calls.items():
        for number in range(1, times + 1):
            directory = case.copy()
            status, log = run(directory, "-e", f"inject={call}:signal=SIGKILL:when={number}")
            killed += status != 0
            case.expect(directory, (call, number, log))
    assert killed == calls.total()

"""The page's own modules, run by Node.js: whatever a test wants of them, without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

CONSOLE: Final = Path(__file__).parents[1] / "console"


def node(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Node.js in console/; skip the test with a word where there is no new enough one, or no clone."""
    program = shutil.which("node")
    if program is None or int(subprocess.check_output([program, "--version"], text=True)[1:].split(".")[0]) < 20:
        pytest.skip("the page's tests take Node.js 20 or later: scripts/console --test")
    if not CONSOLE.is_dir():
        pytest.skip("the page's sources are in the clone alone")
    return subprocess.run(
        [program, *arguments], cwd=CONSOLE, input=given, capture_output=True, text=True, check=False, timeout=300
    )


def evaluate(imports: str, expression: str, given: object) -> Any:
    """Return what an expression makes of `given`, by modules that are imported relative to console/."""
    script = f"""
        import {{ readFileSync }} from "node:fs";
        {imports}
        const given = JSON.parse(readFileSync(0, "utf8"));
        console.log(JSON.stringify({expression}));
    """
    done = node("--input-type=module", "-e", script, given=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

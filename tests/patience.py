"""How long tests wait: they also run on a Raspberry Pi, and on a machine that has other things to do.

Rules:
* An event is waited for with DEADLINE. Only a test that fails meets it, so it can be long.
* What is promised in seconds, or tells by its silence, gets `fair` seconds: more where others want the processor too.
* How much work something is, is counted, or measured in processor time. No clock on a wall judges it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: Seconds until an event that does not come is given up. pyproject.toml's `timeout` is above it.
DEADLINE: Final = 180.0


def fair(seconds: float) -> float:
    """What `seconds` of a machine of one's own are on this one as it is now, and twice that where it is busy at all; ten times
    as many at the most, for settings have upper ends."""
    load, _, _, running, *_ = Path("/proc/loadavg").read_text().split()
    share = max(float(load), float(running.partition("/")[0])) / (os.cpu_count() or 1)
    return seconds * (1 if share <= 0.5 else min(1 + 2 * share, 10))

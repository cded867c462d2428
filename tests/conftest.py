"""How the properties are drawn: a few examples by default, many at night, the same ones again in CI."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import HealthCheck, settings

# A machine under test may be a Raspberry Pi, or busy: time is for pytest-timeout to judge, not for hypothesis.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _UNTIMED, max_examples=100)
settings.register_profile("ci", _UNTIMED, max_examples=200, derandomize=True, print_blob=True)
settings.register_profile("nightly", _UNTIMED, max_examples=100_000, print_blob=True)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") in {"1", "true"} else "default")
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a root file system of Debian, unless it is asked for by name: `-m pi`, `-m fresh`."""
    asked = re.findall(r"\w+", str(config.getoption("markexpr")))
    for name in {"pi", "fresh"} - set(asked):
        for item in items:
            if item.get_closest_marker(name):
                reason = f"needs root and a Debian 13 to install: scripts/test --{name}"
                item.add_marker(pytest.mark.skip(reason=reason))

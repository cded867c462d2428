"""How the properties are drawn: a few examples by default, many at night, the same ones again in CI."""

from __future__ import annotations

import os
import re
from itertools import chain, groupby, zip_longest
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine under test may be a Raspberry Pi, or busy: time is for pytest-timeout to judge, not for hypothesis.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _UNTIMED, max_examples=100)
settings.register_profile("ci", _UNTIMED, max_examples=200, derandomize=True, print_blob=True)
# Beside the newest versions, which draw all of those: what is looked for on the oldest is what their libraries do otherwise.
settings.register_profile("oldest", _UNTIMED, max_examples=50, derandomize=True, print_blob=True)
settings.register_profile("nightly", _UNTIMED, max_examples=100_000, print_blob=True)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") in {"1", "true"} else "default")
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a root file system of Debian, or Home Assistant, unless it is asked for by name: `-m pi`, `-m fresh`,
    `-m home_assistant`.
    """
    asked = re.findall(r"\w+", str(config.getoption("markexpr")))
    for name in {"pi", "fresh", "home_assistant"} - set(asked):
        for item in items:
            if item.get_closest_marker(name):
                needed = "Home Assistant" if name == "home_assistant" else "root and a Debian 13 to install"
                reason = f"needs {needed}: scripts/test --{name.replace('_', '-')}"
                item.add_marker(pytest.mark.skip(reason=reason))
    items[:] = in_turns(items)


def in_turns(items: list[pytest.Item]) -> list[pytest.Item]:
    """A file of each folder in turn: those of contract and e2e wait, those of unit compute meanwhile, and are short at the end."""
    files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    folders: dict[Path, list[list[pytest.Item]]] = {}
    for file in files:
        folders.setdefault(file[0].path.parent, []).append(file)
    return [item for turn in zip_longest(*folders.values(), fillvalue=()) for item in chain(*turn)]

"""Programs and libraries that some tests need beside Python: skipped with the reason where people run them, a failure in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from tests.brokers import find_program

IN_CI = os.environ.get("CI") in {"1", "true"}


def lacking(reason: str) -> NoReturn:
    if IN_CI:
        pytest.fail(f"CI runs every test, but {reason}")
    pytest.skip(reason)


def require_mosquitto() -> None:
    for name in ("mosquitto", "mosquitto_pub"):
        if find_program(name) is None:
            lacking(f"{name} is missing: sudo apt install mosquitto mosquitto-clients")

"""Logging to stderr: one line per event, with journald's level prefixes when journald reads it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from edge_agent.wording import plain

#: sd-daemon(3): the kernel's levels.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _OneLine(logging.Formatter):
    """Formats each record as one printable line: text from outside must not be able to add lines, nor to control the
    terminal that shows them.
    """

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class _Journal(_OneLine):
    """`<3>message`: journald takes the level from the prefix and adds the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def set_up(level: str, environment: Mapping[str, str] = os.environ) -> None:
    """Log messages of `edge_agent` at `level` or above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in environment:
        handler.setFormatter(_Journal("%(message)s"))
    else:
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"))
    logger = logging.getLogger("edge_agent")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())

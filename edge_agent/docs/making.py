"""Makes a node's document while the agent serves: in a short-lived process, since all that it takes, in time and memory, is needed once.

The agent keeps the bytes that come of it, and nothing else: what describes is never imported here. Nothing that goes wrong with it
ends more than the document.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from edge_agent.contract import topics
from edge_agent.contract.messages import Answer
from edge_agent.docs.served import CONTENT_TYPE, Served
from edge_agent.host.apart import Apart, Limits

if TYPE_CHECKING:
    from edge_agent.config.settings import Settings

_log = logging.getLogger(__name__)

#: Largest document that is published, in bytes: it stays in the agent's memory, and in that of the broker.
MAX_BYTES: Final = 256 << 10
#: A Raspberry Pi Zero 2 takes about half a second for the bundled model.
_LIMITS: Final = Limits(seconds=60.0, patience=240.0, memory=128 << 20)
_WITHOUT: Final = "edge/%s/docs is not published: %s; edge-agent docs --json writes it"


class Documentation:
    """The document of a plan: implements `edge_agent.serving.announcements.Later`. It is made when it is first asked for.

    `most` is the size in bytes beyond which it is left out; `begin` begins the process.
    """

    def __init__(
        self,
        settings: Settings,
        models: Mapping[str, Served],
        *,
        limits: Limits = _LIMITS,
        most: int = MAX_BYTES,
        begin: Callable[[Callable[[Callable[[str], None]], None], Limits], Apart] = Apart,
    ) -> None:
        self._settings, self._models, self._limits, self._most = settings, models, limits, most
        self._begin = begin
        self._apart: Apart | None = None
        self._made: bytes | None = None
        #: Whether it is made, or can't be.
        self._ended = False

    @property
    def ready(self) -> bool:
        """Whether it is made, or can't be."""
        if not self._ended:
            try:
                self._ended = self._look()
            except (OSError, ValueError) as error:  # no process, or one whose report was cut
                self._ended = True
                self._do_without(str(error))
        return self._ended

    def message(self, node: str) -> Answer | None:
        """Return the retained message; None where there is none."""
        if self._made is None:
            return None
        return Answer(topics.docs(node), self._made, qos=1, retain=True, content_type=CONTENT_TYPE)

    def close(self) -> None:
        """End the making of it."""
        if self._apart is not None:
            self._apart.close()
            self._ended = True

    def _look(self) -> bool:
        """Return whether the process has ended; begin it, and take what came of it."""
        if self._apart is None:
            self._apart = self._begin(self._work, self._limits)
        if not self._apart.ended:
            return False
        try:
            if (trouble := self._apart.trouble()) is not None:
                self._do_without(trouble)
                return True
            made = json.loads("".join(self._apart.report())).encode()
        finally:
            self._apart.close()
        if len(made) <= self._most:
            self._made = made
        else:
            self._do_without(f"it has {len(made)} bytes, more than {self._most}")
        return True

    def _work(self, tell: Callable[[str], None]) -> None:
        from edge_agent.docs import asyncapi

        # As a text in JSON, it is one line of a report.
        tell(json.dumps(asyncapi.write(self._settings, self._models).decode()))

    def _do_without(self, reason: str) -> None:
        _log.warning(_WITHOUT, self._settings.node.id, reason)

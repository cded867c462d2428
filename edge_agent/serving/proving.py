"""The phases in which a candidate is compared with the model before it: shadow, canary, soak (`edge_agent.serving.contest`).

Each takes the manifest's `soak_seconds`: shadow where a `min_agreement` is asked for, then canary where a share of sensors begins, then all
sensors, with the model before still loaded. Without `soak_seconds` there is none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from edge_agent.contract.manifest import Manifest
from edge_agent.contract.progress import Compared
from edge_agent.serving.contest import Contesting
from edge_agent.serving.engine import Model
from edge_agent.serving.evidence import ContestLimits
from edge_agent.serving.phases import Phase

#: Seconds between two looks at the figures.
_BETWEEN: Final = 1.0


class Proving:
    """The phases of the `candidates` of a manifest, by the names that routes use. `clock` gives seconds; where
    the candidates are served already (`is_served`) only the last phase is left.
    """

    def __init__(
        self,
        manifest: Manifest,
        candidates: Mapping[str, Model],
        clock: Callable[[], float],
        *,
        is_served: bool = False,
    ) -> None:
        #: The phase that it is in, None before the first, and the contests of that.
        self.phase: Phase | None = None
        self.contests: Mapping[str, Contesting] = {}
        self._left = list(_phases(manifest))[-1 if is_served else 0 :]
        self._seconds = manifest.soak_seconds
        self._limits = ContestLimits(
            manifest.min_agreement, manifest.max_failed, manifest.max_rejected, manifest.max_slower
        )
        self._candidates = candidates
        self._clock = clock
        self._next_look = self._ends = 0.0

    def begin(self) -> Phase | None:
        """Begin the next phase and return it; None when all are over."""
        if not self._left:
            return None
        self.phase, share = self._left.pop(0)
        self.contests = {name: Contesting(one, share, self._limits) for name, one in self._candidates.items()}
        self.start()
        return self.phase

    def start(self) -> None:
        """Note that the phase's plan is in use from now on."""
        self._ends = self._clock() + self._seconds

    def wait(self, seconds: float) -> None:
        """Let the phase take longer: nothing could be seen for so long."""
        self._ends += seconds

    @property
    def is_over(self) -> bool:
        """Whether the phase has taken as long as it should."""
        return self._clock() >= self._ends

    def trouble(self) -> str | None:
        """Return why to go back, None as long as there is no reason."""
        if self._clock() < self._next_look and not self.is_over:
            return None
        self._next_look = self._clock() + _BETWEEN
        found = ((name, one.trouble(last=self.is_over)) for name, one in self.contests.items())
        return next((f"{name}, {self.phase}: {why}" for name, why in found if why is not None), None)

    def compared(self) -> dict[str, Compared]:
        """Return the figures of the phase."""
        return {name: one.describe() for name, one in self.contests.items()}


def _phases(manifest: Manifest) -> Iterator[tuple[Phase, float]]:
    """Yield the phases, each with the share of sensors that the candidate answers."""
    if not manifest.soak_seconds:
        return
    if manifest.min_agreement is not None:
        yield Phase.SHADOW, 0.0
    if 0 < manifest.canary < 1:
        yield Phase.CANARY, manifest.canary
    yield Phase.COMMITTED, 1.0

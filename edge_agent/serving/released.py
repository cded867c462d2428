"""What an update consists of, and what it asks of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from edge_agent.contract import topics
from edge_agent.contract.card import ModelCard
from edge_agent.contract.manifest import Manifest, ModelFile
from edge_agent.contract.messages import Answer
from edge_agent.contract.progress import UpdateProgress
from edge_agent.model.trust import Offer
from edge_agent.serving.contest import Contesting
from edge_agent.serving.engine import Model
from edge_agent.serving.fetching import Fetching, Part
from edge_agent.serving.phases import Phase
from edge_agent.serving.proving import Proving

_T_co = TypeVar("_T_co", covariant=True)

#: Seconds until something is tried again that the device was not fit for, doubled each time.
_AGAIN: Final = 10.0
_LONGEST_AGAIN: Final = 3600.0


class Served(NamedTuple):
    """A model that is open: what is served, or a candidate. `loaded` is what a reload knows of it, `model` what is asked."""

    card: ModelCard
    sha256: str
    loaded: object = None
    model: Model | None = None


class Verdict(NamedTuple):
    """What is remembered of a file: why it is not to be served."""

    phase: Phase
    reason: str


def refused_for(reason: str) -> Verdict:
    """Return the verdict that something is not accepted."""
    return Verdict(Phase.REFUSED, reason)


class Job(Protocol[_T_co]):
    """Work in a process of its own."""

    @property
    def ended(self) -> bool:
        """Whether it has ended."""

    def result(self) -> _T_co:
        """Return what came of it, once it has ended; call it once. Raises `EdgeAgentError`."""

    def close(self) -> None:
        """End it."""


class Workshop(Protocol):
    """What takes time, files or cryptography (implemented by `edge_agent.serving.workshop.Workshop`)."""

    def accept(self, envelope: bytes) -> Job[Offer]:
        """Check a manifest, and remember its serial."""

    def trust(self, envelope: bytes) -> Job[None]:
        """Check a list of keys, and take it over."""

    def lacking(self, files: Sequence[ModelFile]) -> Job[frozenset[str]]:
        """Find which files, by their sha256, the store does not have."""

    def part(self, file: ModelFile) -> Part:
        """Return what there is of a file. Raises `FileError`."""

    def test(self, files: Sequence[ModelFile], evidence: bytes | None, manifest: Manifest) -> Job[Mapping[str, Served]]:
        """Put files whose pieces are there into the store, with who signed them, open and test them; return them by name. They are on trial from now on."""

    def watch(self, files: Sequence[ModelFile], manifest: Manifest) -> Job[None]:
        """Note that files are on trial."""

    def watched(self, served: Mapping[str, Served]) -> tuple[Offer, list[ModelFile]] | None:
        """Return the release that is on trial, and those of its files that are served; None where there is none. Raises `FileError`,
        `StoreError` and `TrustError`.
        """

    def former(self, files: Sequence[ModelFile]) -> Job[Mapping[str, Served]]:
        """Open what was served before files that are served now; return it by name, without what can't be opened."""

    def use(self, files: Sequence[ModelFile]) -> Job[None]:
        """Make files of the store the ones that are served from the next plan on. When it fails, or is killed, `go_back` has to follow."""

    def keep(self, files: Sequence[ModelFile]) -> Job[None]:
        """End the trial of files that have stood it, and remove what is old."""

    def go_back(self, files: Sequence[ModelFile], serial: int, verdict: Verdict | None) -> Job[None]:
        """Make what was served before `use` current again where it is not, and remember why; without a verdict, `use` failed."""

    def refuse(self, files: Sequence[ModelFile], serial: int, verdict: Verdict) -> Job[None]:
        """Remember why files are not to be served, whatever is current."""

    def verdict(self, file: ModelFile, serial: int) -> Verdict | None:
        """Return why a file is not to be served by a manifest of this serial. Raises `FileError`."""


#: When the system has ended the process of a model or a message so many times, it is they that take too much.
MOST_CUT_SHORT: Final = 3


class About(NamedTuple):
    """The node, its channel, whether a person installs by a request, the largest file in bytes, and a text that is different where the
    signatures of others count.
    """

    node: str
    channel: str
    by_hand: bool = False
    max_bytes: int = 32 << 20
    trusts: str = ""

    @property
    def probe(self) -> Answer:
        """A retained message, to ask whether the broker keeps such."""
        return Answer(topics.model(self.node, "x"), b"", qos=1, retain=True)


class InUse(NamedTuple):
    """The plan that is in use, as far as updates concern it: see `edge_agent.serving.updating.Updates`."""

    about: About
    served: Mapping[str, Served]
    workshop: Workshop
    fits: Callable[[Mapping[str, Served]], None]
    contests: Mapping[str, Contesting]


class Wish(NamedTuple):
    """What the next plan is to be made of: models that are open already, candidates that are compared, and the models before those that are
    served already; both by the names that routes use.
    """

    known: tuple[object, ...] = ()
    contests: Mapping[str, Contesting] = MappingProxyType({})
    before: Mapping[str, Model] = MappingProxyType({})


class Release:
    """A manifest in progress, and the files of it that are to change."""

    def __init__(self, offer: Offer, files: Sequence[ModelFile]) -> None:
        self.manifest, self.files = offer.manifest, tuple(files)
        #: The message with the manifest: who signed the files. It goes with the release, from one plan to the next.
        self.evidence = offer.evidence
        self.phase = Phase.FETCHING
        self.fetching: Fetching | None = None
        self.job: Job[Any] | None = None
        self.then: Callable[[Any], None] = lambda _: None
        #: What has passed its tests, and what is served in its place until it is.
        self.tested: Mapping[str, Served] = {}
        self.before: Mapping[str, Served] = {}
        self.proving: Proving | None = None
        #: Why it goes back.
        self.verdict: Verdict | None = None
        #: Why it can't be put in place now: what the store says of some of it already is taken back before it is tried again.
        self.failure: BaseException | None = None
        #: Whether a person has asked for it.
        self.approved = False
        #: Whether the store says already that it is to be served: then a newer manifest has to wait.
        self.is_being_placed = False
        #: Whether it is served, and watched.
        self.is_served = False
        #: Whether nothing is said of it unless it goes back: what is said is of a newer one, which did not come to serve.
        self.is_quiet = False
        #: Why the last piece has to be fetched again, as it was told.
        self.trouble: str | None = None
        #: What is said of it while it is watched.
        self.remark: str | None = None
        #: Pieces that had to be fetched again, before `fetching`.
        self.damaged = self.absent = 0
        self._percentage = 0
        self.failures = 0
        #: How many times the system ended its test.
        self.cut_short = 0
        self.not_before = 0.0

    @property
    def names(self) -> list[str]:
        """The names of the models that are to change."""
        return [file.name for file in self.files]

    @property
    def wish(self) -> Wish:
        """The plan that it needs now."""
        # Those before are open anyway until they are not served any more.
        known = tuple(one.loaded for one in (*self.tested.values(), *(self.before.values() if self.is_served else ())))
        if self.proving is None or self.proving.phase is None or self.verdict is not None:
            return Wish(known)
        before = {name: one.model for name, one in self.before.items() if one.model is not None}
        return Wish(known, self.proving.contests, before if self.is_being_placed or self.is_served else {})

    @property
    def progress(self) -> UpdateProgress:
        """How far it has come."""
        fetching = self.fetching
        pieces = sum(file.pieces for file in self.files)
        lacking = pieces if self.phase is Phase.FETCHING else 0
        progress: UpdateProgress = {
            "serial": self.manifest.serial,
            "state": self.phase.value,
            "models": self.names,
            "fetched": max(0, pieces - (lacking if fetching is None else fetching.lacking)),
            "pieces": pieces,
            "damaged": self.damaged + (fetching.damaged if fetching is not None else 0),
            "absent": self.absent + (fetching.absent if fetching is not None else 0),
        }
        if self.proving is not None:
            progress["compared"] = self.proving.compared()
        return progress

    def do(self, job: Job[Any], then: Callable[[Any], None]) -> None:
        """Wait for work, then go on with what comes of it."""
        self.job, self.then = job, then

    def close(self) -> None:
        """End the work on it."""
        if self.job is not None:
            self.job.close()
            self.job = None
        if self.fetching is not None:
            self.fetching.close()

    def pause(self) -> float:
        """Return the seconds until something is tried again that the device was not fit for: more each time."""
        self.failures += 1
        return min(_LONGEST_AGAIN, _AGAIN * 2.0 ** min(self.failures - 1, 16))

    def reached(self) -> int:
        """Return how much of the files is there, in percent. It does not go back, even where a file has to be fetched again."""
        if self.phase is not Phase.FETCHING:
            self._percentage = 100
        elif self.fetching is not None:
            self._percentage = max(self._percentage, self.fetching.percentage)
        return self._percentage

    def begin_again(self, when: float) -> None:
        """Begin again with what is there, at a time."""
        self.close()
        self.end_fetching()
        self.is_being_placed, self.proving, self.failure = False, None, None
        self.phase, self.not_before = Phase.FETCHING, when

    def end_fetching(self) -> None:
        """Keep the counts of what was fetched."""
        if self.fetching is not None:
            self.damaged += self.fetching.damaged
            self.absent += self.fetching.absent
            self.fetching.close()
            self.fetching = self.trouble = None

"""Does the work of an update that takes time, waits for the disk, or needs cryptography: in short-lived processes, so that no message waits.

Implements `edge_agent.serving.released.Workshop`. Each kind of work is a `Job`; its steps follow one another, each in a process of its own
with limits on time and memory (`edge_agent.host.apart`). An end of a process wakes the loop, which looks.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from edge_agent import errors, wording
from edge_agent.contract.manifest import KeyList, Manifest, ModelFile, read, written
from edge_agent.errors import EdgeAgentError, FileError, StoreError
from edge_agent.host.apart import Apart, Limits
from edge_agent.model.library import Loaded, Trial, limits
from edge_agent.model.state import Refused
from edge_agent.model.store import Part, State, Store, Version
from edge_agent.model.trust import Accepted, Examination, Kept, Offer, Signers, remember, trust
from edge_agent.model.watching import place, take_back
from edge_agent.serving.phases import Phase
from edge_agent.serving.released import Served, Verdict

_log = logging.getLogger(__name__)

#: A disk may take long; what is done there takes little else.
_LIMITS: Final = Limits(seconds=60.0, patience=600.0, memory=128 << 20, nice=10)
#: Messages come first, so a test may take this many times as long as elsewhere.
_PATIENT: Final = 8
#: Seconds for which a change waits for those of other processes.
_PATIENCE: Final = 30.0
#: Before this the clock was not set: seconds since 1970.
_SANE: Final = 1_767_225_600.0  # 2026

_T = TypeVar("_T")


class Step(Protocol):
    """A process that is waited for."""

    @property
    def ended(self) -> bool:
        """Whether it has ended."""


class Steps(Generic[_T]):
    """Work in several steps: what `steps` yields is waited for, and what it returns or raises came of it."""

    def __init__(self, steps: Generator[Step, None, _T]) -> None:
        self._steps = steps
        self._result: _T | None = None
        self._error: EdgeAgentError | None = None
        self._ended = False
        self._step: Step | None = None
        self._go_on()

    @property
    def ended(self) -> bool:
        """Whether it has ended; goes on where a step has."""
        while not self._ended and self._step is not None and self._step.ended:
            self._go_on()
        return self._ended

    def result(self) -> _T:
        """Return what came of it. Raises `EdgeAgentError`."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # it has ended: the steps have returned that

    def close(self) -> None:
        """End it."""
        self._ended = True
        self._steps.close()

    def _go_on(self) -> None:
        try:
            self._step = next(self._steps)
        except StopIteration as end:
            self._result, self._ended = end.value, True
        except EdgeAgentError as error:
            self._error, self._ended = error, True
        except OSError as error:  # no process, or no memory for one
            self._error, self._ended = FileError(f"can't begin a process: {error.strerror or error}"), True


class Workshop:
    """The workshop of a channel. `store` returns the store, with the seconds for which it waits for other processes; `signers` are the keys of the settings; `elsewhere`
    finds what is served without the store; `allowed` gives the limits of testing; `clock` is the time of day.
    """

    def __init__(
        self,
        store: Callable[[float], Store],
        channel: str,
        signers: Signers,
        *,
        required: bool = True,
        elsewhere: Callable[[str], Path | None] = lambda _: None,
        allowed: Callable[[int], Limits] = limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        #: The first is used here, and must not wait for other processes; the other one apart.
        self._store, self._patient = store(0.0), store(_PATIENCE)
        self._channel, self._signers, self._required = channel, signers, required
        self._elsewhere, self._allowed, self._clock = elsewhere, allowed, clock
        #: The message that was put beside the files that it names last.
        self._renewed: bytes | None = None

    def accept(self, envelope: bytes) -> Steps[Offer]:
        """Check a manifest, and remember its serial."""
        return Steps(self._accept(envelope))

    def trust(self, envelope: bytes) -> Steps[None]:
        """Check a list of keys, and take it over."""
        return Steps(self._take_keys(envelope))

    def lacking(self, files: Sequence[ModelFile]) -> Steps[frozenset[str]]:
        """Find which files, by their sha256, the store does not have."""
        return Steps(self._lacking(files))

    def part(self, file: ModelFile) -> Part:
        """Return what there is of a file. Raises `FileError`."""
        return self._store.part(file.sha256, file.size, file.blobs)

    def test(
        self, files: Sequence[ModelFile], evidence: bytes | None, manifest: Manifest
    ) -> Steps[Mapping[str, Served]]:
        """Put files whose pieces are there into the store, with who signed them, open and test them; return them by name. They are on trial from now on."""
        return Steps(self._test(files, evidence, manifest))

    def watch(self, files: Sequence[ModelFile], manifest: Manifest) -> Steps[None]:
        """Note that files are on trial."""
        return Steps(_alone(lambda: self._watch(files, manifest)))

    def watched(self, served: Mapping[str, Served]) -> tuple[Offer, list[ModelFile]] | None:
        """Return the release that is on trial, and those of its files that are served, if any. Raises `FileError`, `StoreError` and `TrustError`."""
        watched = self._store.read().watched
        if watched is None or not watched.manifest:
            return None
        manifest = read(Manifest, watched.manifest, "the manifest on trial")
        there = {(name, one.sha256) for name, one in served.items()} & watched.files.items()
        files = [file for file in manifest.models if (file.name, file.sha256) in there]
        return (Offer(manifest, None, Accepted()), files) if files else None

    def former(self, files: Sequence[ModelFile]) -> Steps[Mapping[str, Served]]:
        """Open what was served before files that are served now; return it by name, without what can't be opened."""
        return Steps(self._former(files))

    def use(self, files: Sequence[ModelFile]) -> Steps[None]:
        """Make files of the store the ones that are served from the next plan on. When it fails, or is killed, `go_back` has to follow."""
        return Steps(_alone(lambda: place(self._patient, _digests(files))))

    def keep(self, files: Sequence[ModelFile]) -> Steps[None]:
        """End the trial of files that have stood it, and remove what is old."""

        def work() -> None:
            self._patient.change(lambda state: state.unwatch([file.name for file in files]))
            for file in files:
                self._patient.prune(file.name)
            self._patient.clear_parts()

        return Steps(_alone(work))

    def go_back(self, files: Sequence[ModelFile], serial: int, verdict: Verdict | None) -> Steps[None]:
        """Make what was served before `use` current again where it is not, and remember why; without a verdict, `use` failed."""

        def work() -> None:
            take_back(self._patient, _digests(files), None if verdict is None else _refused(serial, verdict))
            if verdict is not None:
                for file in files:
                    self._drop(file)
                self._patient.clear_parts()

        return Steps(_alone(work))

    def refuse(self, files: Sequence[ModelFile], serial: int, verdict: Verdict) -> Steps[None]:
        """Remember why files are not to be served, whatever is current."""

        def noted(state: State) -> State:
            digests = _digests(files)
            return state.refuse(digests.values(), _refused(serial, verdict)).unwatch(digests)

        return Steps(_alone(lambda: self._patient.change(noted)))

    def verdict(self, file: ModelFile, serial: int) -> Verdict | None:
        """Return why a file is not to be served by a manifest of this serial. Raises `FileError`."""
        refused = self._store.read().refused.get(file.sha256)
        if refused is None or serial > refused.serial:
            return None
        return Verdict(Phase.ROLLED_BACK if refused.rolled_back else Phase.REFUSED, refused.reason)

    # -- how

    @property
    def _now(self) -> float | None:
        return now if (now := self._clock()) >= _SANE else None

    def _kept(self, state: State) -> Kept:
        return state.channels.get(self._channel, Kept())

    def _accept(self, envelope: bytes) -> Generator[Step, None, Offer]:
        kept = self._kept(self._store.read())
        whom = trust(self._signers, self._channel, kept, required=self._required)
        offer = yield from _examined(Examination("manifest", envelope, whom, self._now), Examination.offer)
        offer = offer._replace(evidence=envelope if self._required else None)
        if offer.accepted != kept.accepted or offer.evidence != self._renewed:
            yield from self._remember(offer.accepted, offer)
            self._renewed = offer.evidence
        return offer

    def _take_keys(self, envelope: bytes) -> Generator[Step, None, None]:
        kept = self._kept(self._store.read())
        whom = trust(self._signers, self._channel, kept, required=self._required)
        keys = yield from _examined(Examination("keys", envelope, whom), Examination.keys)
        if keys != kept.keys:
            yield from self._remember(keys)

    def _remember(self, taken: Accepted | KeyList, offer: Offer | None = None) -> Generator[Step, None, None]:
        def to(state: State) -> State:
            now = remember(self._kept(state), self._signers, taken)
            others = {name: kept for name, kept in state.channels.items() if name != self._channel}
            return state.model_copy(update={"channels": {**others, self._channel: now}})  # the last: see `dump`

        def work() -> None:
            if offer is not None:  # first: the disk may be full of what nobody wants now
                self._patient.clear_parts([file.sha256 for file in offer.manifest.models])
            if offer is not None and offer.evidence is not None:
                self._renew(offer.manifest.models, offer.evidence)
            over = () if offer is None else self._superseded(offer.manifest.models)
            self._patient.change(lambda state: to(state).unwatch(over))

        yield from _alone(work)

    def _superseded(self, files: Sequence[ModelFile]) -> Collection[str]:
        """Return the models on trial where a release never came to serve, and now never will."""
        if (watched := self._patient.read().watched) is None:
            return ()
        goes_on = all(watched.files.get(file.name, file.sha256) == file.sha256 for file in files)
        return () if goes_on or any(self._is_current(*one) for one in watched.files.items()) else watched.files

    def _watch(self, files: Sequence[ModelFile], manifest: Manifest) -> None:
        self._patient.change(lambda state: state.watch(_digests(files), manifest.serial, written(manifest)))

    def _renew(self, files: Sequence[ModelFile], evidence: bytes) -> None:
        """Put the message beside the files that are there already: the keys that signed them before may be trusted no more."""
        for file in files:
            if (one := self._found(file)) is not None:
                self._patient.add(one.name, one.version, one.path, evidence)

    def _lacking(self, files: Sequence[ModelFile]) -> Generator[Step, None, frozenset[str]]:
        def work(tell: Callable[[str], None]) -> None:
            for file in files:
                if self._found(file) is None:
                    tell(json.dumps({"lacking": file.sha256}))

        told = yield from _apart(work, _LIMITS)
        return frozenset(one["lacking"] for one in told if "lacking" in one)

    def _test(
        self, files: Sequence[ModelFile], evidence: bytes | None, manifest: Manifest
    ) -> Generator[Step, None, Mapping[str, Served]]:
        def work(tell: Callable[[str], None]) -> None:
            # Before they are opened here: even that may end the agent.
            self._watch(files, manifest)
            for file in files:
                if (found := self._found(file)) is None:
                    with self._patient.part(file.sha256, file.size, file.blobs) as part:
                        found = self._patient.add(file.name, file.version, part.finish(), evidence)
                tell(json.dumps({"path": str(found.path)}))

        told = yield from _apart(work, _LIMITS)
        return (yield from self._open({file.name: Path(told[place]["path"]) for place, file in enumerate(files)}))

    def _former(self, files: Sequence[ModelFile]) -> Generator[Step, None, Mapping[str, Served]]:
        found: dict[str, Served] = {}
        for file in files:
            try:
                before = self._store.before(file.name)
                path = self._elsewhere(file.name) if before is None else before.path
                found |= {} if path is None else (yield from self._open({file.name: path}))
            except (EdgeAgentError, OSError) as error:
                _log.error("update: %s: what was served before can't be compared: %s", file.name, error)
        return found

    def _open(self, paths: Mapping[str, Path]) -> Generator[Step, None, Mapping[str, Served]]:
        trial = Trial(list(paths.values()), self._beside)
        try:
            yield trial
            opened: list[Loaded] = trial.open()
        finally:
            trial.close()
        return {
            name: Served(one.predictor.card, one.predictor.sha256, one, one.predictor)
            for name, one in zip(paths, opened, strict=True)
        }

    def _beside(self, size: int) -> Limits:
        """Return the limits of a test beside messages."""
        allowed = self._allowed(size)
        return allowed._replace(patience=_PATIENT * allowed.patience, nice=_LIMITS.nice)

    def _drop(self, file: ModelFile) -> None:
        """Remove a version that was refused, unless it is in use."""
        if self._found(file) is not None and not self._is_current(file.name, file.sha256):
            self._patient.remove(file.name, file.sha256)

    def _found(self, file: ModelFile) -> Version | None:
        """Return a file as the store has it, None where it does not."""
        return next((one for one in self._patient.versions(file.name) if one.sha256 == file.sha256), None)

    def _is_current(self, name: str, sha256: str) -> bool:
        current = self._patient.current(name)
        return current is not None and current.sha256 == sha256


class Pieces:
    """Removes the pieces of files for a channel that is not followed any more: an `edge_agent.serving.announcements.Later` without a
    message. `store` is as for `Workshop`.
    """

    def __init__(self, store: Callable[[float], Store]) -> None:
        self._store = store
        self._job: Steps[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether they are removed, or can't be."""
        if self._job is None:
            self._job = Steps(_alone(self._store(_PATIENCE).clear_parts))
        return self._job.ended

    def message(self, node: str) -> None:  # noqa: ARG002 - as all of them
        """Say in the log what went wrong."""
        try:
            if self._job is not None:
                self._job.result()
        except EdgeAgentError as error:
            _log.warning("pieces of models that did not arrive can't be removed: %s", error)

    def close(self) -> None:
        """End it."""
        if self._job is not None:
            self._job.close()


def _digests(files: Sequence[ModelFile]) -> dict[str, str]:
    return {file.name: file.sha256 for file in files}


def _refused(serial: int, verdict: Verdict) -> Refused:
    why = wording.reason(verdict.reason)  # it may have a library's words in it, and a file's
    return Refused(serial=serial, reason=why, rolled_back=verdict.phase is Phase.ROLLED_BACK)


def _examined(one: Examination, take: Callable[[Examination], _T]) -> Generator[Step, None, _T]:
    try:
        yield one
        return take(one)
    finally:
        one.close()


def _alone(work: Callable[[], object]) -> Generator[Step, None, None]:
    """Do something in a process of its own."""
    yield from _apart(lambda _: work(), _LIMITS)


def _apart(
    work: Callable[[Callable[[str], None]], object], allowed: Limits
) -> Generator[Step, None, list[dict[str, Any]]]:
    """Do something in a process of its own, and return what it tells, line by line. Raises what it raises, if that is ours."""

    def guarded(tell: Callable[[str], None]) -> None:
        try:
            work(tell)
        except EdgeAgentError as error:
            tell(json.dumps({"error": str(error), "kind": type(error).__name__}))
        except OSError as error:
            tell(json.dumps({"error": error.strerror or str(error), "kind": FileError.__name__}))
        except ValueError as error:  # a bug: pydantic's have many lines, with all that was given in them
            first = str(error).partition("\n")[0]
            said = f"putting models in place failed: {type(error).__name__}: {first}"
            tell(json.dumps({"error": said, "kind": StoreError.__name__}))

    process = Apart(guarded, allowed)
    try:
        yield process
        if (trouble := process.trouble()) is not None:
            raise StoreError(f"putting models in place failed: {trouble}")
        told = [json.loads(line) for line in process.report()]
    finally:
        process.close()
    for one in told:
        if "error" in one:
            raise getattr(errors, one["kind"])(one["error"])
    return told

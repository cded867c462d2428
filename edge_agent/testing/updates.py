"""Fakes of what an update of models asks of others: everything that takes time, files or cryptography, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.contract.manifest import Manifest, ModelFile
from edge_agent.model.trust import Accepted, Offer
from edge_agent.serving.released import Served, Verdict


class FakeJob:
    """Work of an update that ends when it is told to, with a result or an error; at once unless it `waits`."""

    def __init__(self, result: Any, *, waits: bool = False) -> None:
        self.outcome = result
        self.ended = not waits
        self.closed = False

    def result(self) -> Any:
        """Return the result, or raise the error."""
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class FakePart:
    """A file of which `lacking` pieces are not there; a piece is what it should be unless it begins with "damaged"."""

    def __init__(self, count: int) -> None:
        self.count, self.there, self.lacking = count, 0, set(range(count))
        self.full: Exception | None = None

    def missing(self) -> list[int]:
        """Return the pieces that are not there."""
        return sorted(self.lacking)

    def close(self) -> None:
        """Do nothing."""

    def instead(self, number: int) -> int:
        """Return the same."""
        return number

    def write(self, number: int, content: bytes) -> bool:
        """Keep a piece; raise what `full` says."""
        if self.full is not None:
            raise self.full
        if intact := not content.startswith(b"damaged"):
            self.lacking.discard(number)
            self.there = self.count - len(self.lacking)
        return intact


class FakeWorkshop:
    """Does the work of an update at once, in memory: `offers` are what manifests are, by their payloads, or why they are refused.

    By the sha256 of files, `tests` are the candidates, or why one is refused, `formers` what was served before those on trial. `outcomes` is
    what becomes of other work, by its name; `done` is what was asked for, in order; `jobs` wait whose names are in `waits`.
    """

    def __init__(self) -> None:
        self.offers, self.tests, self.outcomes, self.verdicts, self.formers = (dict[Any, Any]() for _ in range(5))
        self.parts: dict[str, FakePart] = {}
        self.there, self.waits = set[str](), set[str]()
        self.jobs, self.done = list[FakeJob](), list[str]()
        self.evidence: bytes | None = None
        #: The manifest of what is on trial, and names and sha256s.
        self.trial: tuple[Any, set[tuple[str, str]]] = (None, set())

    def _job(self, name: str, result: Any = None) -> FakeJob:
        self.done.append(name)
        self.jobs.append(FakeJob(self.outcomes.get(name, result), waits=name in self.waits))
        return self.jobs[-1]

    def accept(self, envelope: bytes) -> FakeJob:
        """Check a manifest."""
        return self._job("accept", self.offers.get(envelope))

    def trust(self, envelope: bytes) -> FakeJob:
        """Check a list of keys."""
        return self._job("trust", self.offers.get(envelope))

    def lacking(self, files: Sequence[ModelFile]) -> FakeJob:
        """Find the files that are not there."""
        return self._job("lacking", frozenset(file.sha256 for file in files) - self.there)

    def part(self, file: ModelFile) -> FakePart:
        """Return what there is of a file."""
        return self.parts.setdefault(file.sha256, FakePart(file.pieces))

    def test(self, files: Sequence[ModelFile], evidence: bytes | None, manifest: Manifest) -> FakeJob:
        """Test files; they are on trial from now on."""
        self.evidence, self.trial = evidence, (manifest, {(file.name, file.sha256) for file in files})
        found = {file.name: self.tests[file.sha256] for file in files}
        return self._job("test", next((one for one in found.values() if isinstance(one, Exception)), found))

    def watch(self, files: Sequence[ModelFile], manifest: Manifest) -> FakeJob:
        """Note what is on trial."""
        self.trial = (manifest, {(file.name, file.sha256) for file in files})
        return self._job(f"watch {' '.join(file.version for file in files)}")

    def watched(self, served: Mapping[str, Served]) -> tuple[Offer, list[ModelFile]] | None:
        """Return what is on trial, and served."""
        manifest, on_trial = self.trial
        there = {(name, one.sha256) for name, one in served.items()} & on_trial
        files = [file for file in manifest.models if (file.name, file.sha256) in there] if there else []
        return (Offer(manifest, None, Accepted()), files) if files else None

    def _unwatch(self, files: Sequence[ModelFile]) -> None:
        self.trial[1].difference_update([(file.name, file.sha256) for file in files])

    def former(self, files: Sequence[ModelFile]) -> FakeJob:
        """Open the former ones."""
        return self._job(
            "former", {file.name: one for file in files if (one := self.formers.get(file.sha256)) is not None}
        )

    def use(self, files: Sequence[ModelFile]) -> FakeJob:
        """Make files current."""
        return self._job(f"use {' '.join(file.version for file in files)}")

    def keep(self, files: Sequence[ModelFile]) -> FakeJob:
        """Note that files are good."""
        self._unwatch(files)
        return self._job(f"keep {' '.join(file.version for file in files)}")

    def go_back(self, files: Sequence[ModelFile], serial: int, verdict: Verdict | None) -> FakeJob:
        """Note why files are refused."""
        if verdict is not None:
            self.refuse(files, serial, verdict)
        return self._job(f"go back from {' '.join(file.version for file in files)}")

    def refuse(self, files: Sequence[ModelFile], serial: int, verdict: Verdict) -> FakeJob:
        """Note why files are refused."""
        self._unwatch(files)
        self.verdicts |= {file.sha256: (serial, verdict) for file in files}
        return FakeJob(self.outcomes.get("refuse"))

    def verdict(self, file: ModelFile, serial: int) -> Verdict | None:
        """Return what was noted."""
        noted, verdict = self.verdicts.get(file.sha256, (0, None))
        return verdict if serial <= noted else None

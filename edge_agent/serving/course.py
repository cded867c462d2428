"""How a release goes on: its phases, and what goes wrong in them. It goes on from one plan to the next.

The rules stand in `edge_agent.serving.updating`. Pure, as that is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Final

from edge_agent.contract.manifest import ModelFile, versions
from edge_agent.contract.messages import Refused
from edge_agent.errors import CutShortError, EdgeAgentError, FileError, ModelError, StoreError
from edge_agent.model.trust import Accepted, Offer
from edge_agent.serving.checking import Checking
from edge_agent.serving.fetching import Fetching
from edge_agent.serving.fitting import unfit
from edge_agent.serving.phases import UNDER_WAY, Phase, may_follow
from edge_agent.serving.proving import Proving
from edge_agent.serving.released import MOST_CUT_SHORT, InUse, Job, Release, Served, Verdict, Wish, refused_for
from edge_agent.serving.telling import Telling

_log = logging.getLogger(__name__)

#: Said of a candidate in whose place a person has put something else.
_DECIDED: Final = Verdict(Phase.ROLLED_BACK, "another version was put into use on the device")


class Course:
    """What is under way in a channel, and what was learned. `clock` gives seconds, `now` the time of day."""

    def __init__(self, plan: InUse, clock: Callable[[], float], now: Callable[[], str]) -> None:
        self.plan = plan
        #: What the next plan is to be made of; None where none is asked for.
        self.wish: Wish | None = None
        self.checking = Checking(plan.about.channel, clock)
        self.telling = Telling(plan.about.node, plan.about.channel, now)
        self.release: Release | None = None
        #: A manifest that was accepted while another one was just being put in place, or what it changed was watched.
        self.following: Offer | None = None
        #: What is served, and was not watched to the end when a newer manifest superseded it.
        self.unwatched: tuple[Offer, Sequence[ModelFile]] | None = None
        self.errands: list[Job[None]] = []
        #: Whether the store was asked what is on trial, and served.
        self.has_looked = False
        #: Whether there was no connection since `stand` was called last, and when that was.
        self.was_away = False
        self._stood = clock()
        #: The pieces that were subscribed to last.
        self.asked: Mapping[str, bool] = {}
        self._clock = clock

    def take_wish(self) -> Wish | None:
        """Return what the next plan is to be made of, once."""
        wish, self.wish = self.wish, None
        return wish

    def follow(self, channel: str) -> None:
        """Follow another channel, or none ("") from now on; what is served is watched to the end all the same."""
        if self.release is not None:
            serial, files = self.release.manifest.serial, versions(self.release.files)
            _log.info(
                "update: serial %d: %s: watched to the end, although the channel is another one now", serial, files
            )
        self.checking.close()
        self.checking = Checking(channel, self._clock)
        self.telling.channel, self.following = channel, None

    def stand(self) -> None:
        """Note that there is a connection."""
        now = self._clock()
        if self.was_away and self.release is not None and self.release.proving is not None:
            self.release.proving.wait(now - self._stood)
        self.was_away, self._stood = False, now

    def go_on(self, release: Release, refused: Sequence[Refused], *, busy: bool, retains: bool) -> None:
        """Go on with a release; see `Updates.turn`."""
        try:
            if release.job is not None:
                if release.job.ended:
                    job, release.job = release.job, None
                    try:
                        result = job.result()
                    finally:
                        job.close()
                    release.then(result)
            elif release.verdict is not None:
                if self._clock() >= release.not_before and self.wish is None:
                    self.take_back(release, release.verdict)
            elif release.failure is not None:
                self._put_back(release, release.failure)
            elif release.proving is not None and not release.is_being_placed:
                self._prove(release, release.proving)
            elif release.phase is Phase.FETCHING:
                self._fetch(release, refused, busy=busy, retains=retains)
            elif release.phase is Phase.VERIFIED and (release.approved or not self.plan.about.by_hand):
                self.become(release, Phase.TESTING)
                job = self.plan.workshop.test(release.files, release.evidence, release.manifest)
                release.do(job, lambda tested: self._tested(release, tested))
        except (EdgeAgentError, OSError) as error:
            self.failed(release, error)

    def _fetch(self, release: Release, refused: Sequence[Refused], *, busy: bool, retains: bool) -> None:
        if self._clock() < release.not_before or self.errands:  # the end of an errand clears away what was arriving
            return
        fetching = release.fetching
        if fetching is None:
            release.do(self.plan.workshop.lacking(release.files), lambda lacking: self._lack(release, lacking))
            return
        if refused:
            fetching.refused([one.topic for one in refused])
        fetching.turn(busy=busy, retains=retains)
        if fetching.done:
            release.end_fetching()
            self.become(release, Phase.VERIFIED, "waits for the request install" if self.plan.about.by_hand else None)
        elif fetching.trouble != release.trouble:
            release.trouble = fetching.trouble
            self._tell(release, fetching.trouble)

    def _lack(self, release: Release, lacking: Collection[str]) -> None:
        with ExitStack() as opened:  # none stays open where not all can be
            parts = {
                sha256: opened.enter_context(closing(self.plan.workshop.part(file)))
                for sha256, file in {file.sha256: file for file in release.files}.items()
                if sha256 in lacking
            }
            release.fetching = Fetching(self.plan.about.channel, parts, self._clock)
            opened.pop_all()

    def _tested(self, release: Release, tested: Mapping[str, Served]) -> None:
        """Check the contract of what has passed its self-test, then put it in place."""
        for file in release.files:
            card = tested[file.name].card
            if (lie := file.mismatch(card)) is not None:
                raise ModelError(f"{file.name} {file.version}: {lie}; sign the file that is meant")
            if (
                not release.manifest.new_contract
                and (broken := unfit(self.plan.served[file.name].card, card)) is not None
            ):
                raise ModelError(f"{file.name} {file.version}: {broken}; sign it with --new-contract if that is meant")
        self.plan.fits({**self.plan.served, **tested})
        release.tested = tested
        release.before = {name: self.plan.served[name] for name in release.names}
        candidates = {name: one.model for name, one in tested.items() if one.model is not None}
        release.proving = Proving(release.manifest, candidates, self._clock)
        self._proceed(release, release.proving)

    def _proceed(self, release: Release, proving: Proving) -> None:
        """Begin the next phase."""
        phase = proving.begin()
        if phase in {Phase.SHADOW, Phase.CANARY}:
            self.become(release, phase)
            self.wish = release.wish
        else:
            release.is_being_placed = True
            release.do(self.plan.workshop.use(release.files), lambda _: self._wish(release))

    def _wish(self, release: Release) -> None:
        self.wish = release.wish

    def look(self) -> None:
        """Watch from the beginning what is served, and was not watched to the end: the agent ended, or it was not served for a while."""
        self.has_looked = True
        try:
            found = None if self.release is not None else self.plan.workshop.watched(self.plan.served)
        except (EdgeAgentError, OSError) as error:
            _log.error("update: what is on trial can't be known: %s", error)
            return
        if found is None:
            return
        self._watch_again(*found)

    def supersede(self, release: Release) -> None:
        """Drop a release for a newer one."""
        if release.is_served:
            offer = Offer(release.manifest, None, Accepted(release.manifest.serial), release.evidence)
            self.unwatched = offer, release.files
        self.drop(release)

    def resume(self) -> None:
        """Watch what is still served after all: what superseded it did not come to serve. What is said of that stays."""
        if self.unwatched is None or self.release is not None or self.errands:
            return
        (accepted, files), self.unwatched = self.unwatched, None
        served = {name: one.sha256 for name, one in self.plan.served.items()}
        if all(served.get(file.name) == file.sha256 for file in files):
            self._watch_again(accepted, files, is_quiet=True)
            self._errand(lambda: self.plan.workshop.watch(files, accepted.manifest))

    def _watch_again(self, accepted: Offer, files: Sequence[ModelFile], *, is_quiet: bool = False) -> None:
        _log.info("update: serial %d: %s is watched from the beginning", accepted.manifest.serial, versions(files))
        release = self.release = Release(accepted, files)
        release.phase, release.is_served, release.is_quiet = Phase.TESTING, True, is_quiet
        self._tell(release, None)
        release.do(self.plan.workshop.former(files), lambda former: self._watch(release, former))

    def _watch(self, release: Release, former: Mapping[str, Served]) -> None:
        release.tested = {name: self.plan.served[name] for name in release.names}
        release.before = former
        if lacking := [name for name in release.names if name not in former]:
            release.remark = f"watched without comparing: what was served before can't be opened: {', '.join(lacking)}"
        candidates = {
            name: one.model for name, one in release.tested.items() if one.model is not None and name in former
        }
        release.proving = Proving(release.manifest, candidates, self._clock, is_served=True)
        if release.proving.begin() is None:
            self._end(release)
        else:
            release.is_being_placed = True
            self._wish(release)

    def planned(self, release: Release, wish: Wish | None, former: Mapping[str, Served]) -> None:
        """Go on with a release in another plan, before which `wish` was asked for, and `former` were served."""
        served = [self.plan.served[file.name].sha256 == file.sha256 for file in release.files]
        if release.verdict is not None:
            if any(served):
                self.wish = wish  # without one it is tried again, after a pause
            elif release.job is None:
                self.stop(release, release.verdict)
        elif release.is_being_placed and all(served):
            self._placed(release)
        elif release.job is not None or release.failure is not None or release.proving is None:
            if any(self._is_another(file, former) for file in release.files):
                self._decide(release, served)
            # else what comes next asks for a plan, where that is needed
        elif not release.is_being_placed:
            self._tried(release, release.proving, served)
        elif wish is not None or release.proving.contests != self.plan.contests:
            self.wish = release.wish  # the plan is another one, by a reload
        else:
            self.failed(release, StoreError("another version was put into use meanwhile"))

    def _tried(self, release: Release, proving: Proving, served: Sequence[bool]) -> None:
        """Go on comparing in another plan, which serves the candidates or not, unless a person has decided."""
        if all(served) if release.is_served else self._serves_before(release):
            self._compare(release, proving)
        elif all(served):
            self._placed(release)
        else:
            self._decide(release, served)

    def _decide(self, release: Release, served: Sequence[bool]) -> None:
        """End a release in whose place a person has put something else, until a newer one comes."""
        if release.is_served and any(served):  # all models of a manifest change together
            self.take_back(release, _DECIDED)
            return
        files = [file for file, is_served in zip(release.files, served, strict=True) if not is_served]
        self._errand(lambda: self.plan.workshop.refuse(files, release.manifest.serial, _DECIDED))
        self.stop(release, _DECIDED)
        if chosen := [file for file in release.files if file not in files]:
            self._errand(lambda: self.plan.workshop.keep(chosen))
            for file in chosen:
                self.telling.tell(file.name, Phase.IDLE, None, serial=release.manifest.serial, latest=file)

    def _is_another(self, file: ModelFile, former: Mapping[str, Served]) -> bool:
        """Tell whether what is served is neither a file nor what was served before this plan."""
        return self.plan.served[file.name].sha256 not in {file.sha256, former[file.name].sha256}

    def _compare(self, release: Release, proving: Proving) -> None:
        """Ask for a plan that compares, where the one in use does not: it is another one, by a reload."""
        if proving.contests != self.plan.contests:
            self.wish = release.wish

    def _serves_before(self, release: Release) -> bool:
        return all(self.plan.served[name].sha256 == one.sha256 for name, one in release.before.items())

    def _placed(self, release: Release) -> None:
        """Note that the plan in use serves a release."""
        release.is_being_placed, release.is_served = False, True
        self.unwatched = None
        _log.info("update: serial %d: %s served now", release.manifest.serial, versions(release.files))
        self.become(release, Phase.COMMITTED, release.remark)
        if release.proving is not None and release.proving.phase is Phase.COMMITTED:
            release.proving.start()
            self._compare(release, release.proving)
        else:
            self._end(release)

    def _prove(self, release: Release, proving: Proving) -> None:
        if (why := proving.trouble()) is not None:
            self.take_back(release, Verdict(Phase.ROLLED_BACK, why))
        elif not proving.is_over:
            return
        elif release.is_served:
            self._end(release)
        else:
            self._proceed(release, proving)

    def take_back(self, release: Release, verdict: Verdict) -> None:
        """Serve again what was served before, once the store says so."""
        release.verdict = verdict
        release.is_being_placed = True
        release.not_before = self._clock() + release.pause()  # until it is tried again, should that not be enough
        job = self.plan.workshop.go_back(release.files, release.manifest.serial, verdict)
        release.do(job, lambda _: self._wish(release))

    def _put_back(self, release: Release, failure: BaseException) -> None:
        """Take back what the store says of a release that could not be put in place as a whole, then begin again."""
        if self._clock() >= release.not_before:
            job = self.plan.workshop.go_back(release.files, release.manifest.serial, None)
            release.do(job, lambda _: self._begin_again(release, failure))

    def _end(self, release: Release) -> None:
        self.become(release, Phase.IDLE)
        self.errands.append(self.plan.workshop.keep(release.files))
        self.drop(release)

    # -- what goes wrong

    def failed(self, release: Release, error: BaseException) -> None:
        """Refuse a release for what is wrong with its models; for what is wrong with the device try it again later."""
        release.cut_short += isinstance(error, CutShortError)
        again = isinstance(error, CutShortError) and release.cut_short < MOST_CUT_SHORT
        if not (again or isinstance(error, FileError | StoreError | OSError)):
            self.go_back(release, refused_for(str(error)))
            return
        if release.verdict is not None:
            pause = max(0.0, release.not_before - self._clock())
            _log.error("update: can't go back: %s; trying again in %.0f s", error, pause)
        elif release.failure is not None:
            pause = release.pause()
            release.not_before = self._clock() + pause
            _log.error("update: can't go back: %s; trying again in %.0f s", error, pause)
        elif release.is_being_placed:
            release.failure = error
        else:
            self._begin_again(release, error)

    def _begin_again(self, release: Release, error: BaseException) -> None:
        pause = release.pause()
        release.begin_again(self._clock() + pause)
        if self.plan.contests:  # nobody watches the candidates until then
            self.wish = Wish()
        _log.error("update: serial %d: %s; trying again in %.0f s", release.manifest.serial, error, pause)
        self.become(release, Phase.FETCHING, str(error))

    def go_back(self, release: Release, verdict: Verdict) -> None:
        """Stop a release, and see to it that what is served stays current."""
        self._errand(lambda: self.plan.workshop.go_back(release.files, release.manifest.serial, verdict))
        self.stop(release, verdict)

    def _errand(self, begin: Callable[[], Job[None]]) -> None:
        try:
            self.errands.append(begin())
        except (EdgeAgentError, OSError) as error:
            _log.error("update: what became of it can't be noted: %s", error)

    def stop(self, release: Release, verdict: Verdict) -> None:
        """End a release, and say why."""
        _log.error("update: serial %d: %s", release.manifest.serial, verdict.reason)
        self.become(release, verdict.phase, verdict.reason)
        self.drop(release)

    def drop(self, release: Release) -> None:
        """Forget a release."""
        release.close()
        # Candidates, or the models before those that are served, are not needed any more.
        self.wish = Wish() if self.plan.contests else None
        self.release = None

    def end_errand(self, job: Job[None]) -> None:
        """Note the end of work for which nothing waits."""
        try:
            job.result()
        except EdgeAgentError as error:
            _log.error("update: what became of the last one can't be noted in the store: %s", error)
        finally:
            job.close()

    # -- what is said

    def become(self, release: Release, phase: Phase, reason: str | None = None) -> None:
        """Begin a phase, and say so."""
        release.phase = may_follow(release.phase, phase)
        self._tell(release, reason)

    def _tell(self, release: Release, reason: str | None) -> None:
        if release.is_quiet and release.phase is not Phase.ROLLED_BACK:
            return
        waits = release.phase is Phase.VERIFIED and self.plan.about.by_hand and not release.approved
        compared = {} if release.proving is None else release.proving.compared()
        for file in release.files:
            more = {
                "serial": release.manifest.serial,
                "latest": file,
                "waits": waits,
                "compared": compared.get(file.name),
                "percentage": release.reached() if release.phase in UNDER_WAY else None,
            }
            self.telling.tell(file.name, release.phase, reason, **more)

"""How models come over MQTT and replace those that are served: the states of an update, and what follows what.

A retained manifest says what the nodes of a channel are to serve (`edge_agent.contract.manifest`): desired state, so a node that
was off catches up. Rules:

* nothing is believed before its signature is: each manifest is checked in a process of its own (`Workshop.accept`), one after the other,
  the newest first, and with pauses that grow while they are refused;
* a manifest that was accepted supersedes the one in progress, unless that is just being put in place; what is served already is watched to
  its end, unless the newer one changes the same models on this node. The `wave` is not signed, and does not end that;
* all models of a manifest that this node serves change together, or none does;
* what is served changes by a new plan only, through the same door as a reload (`edge_agent.serving.reloading`), which is asked for by `wish`;
* whatever goes wrong is told on `edge/{node}/model/{name}`, and the models that are served go on. What is wrong with a model is remembered in
  the store, so that it is not tried again before a manifest with a higher serial; what is wrong with the device (a full disk) is tried again;
* without news it costs one comparison a turn of the loop, and nothing for a message.

Pure: processes, files and clocks are the workshop's and the caller's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from edge_agent.contract import topics
from edge_agent.contract.manifest import Manifest, ModelFile, versions
from edge_agent.contract.messages import Answer, Message, Refused
from edge_agent.contract.progress import UpdateProgress
from edge_agent.errors import EdgeAgentError
from edge_agent.model.trust import Offer
from edge_agent.serving.contest import Contesting
from edge_agent.serving.course import Course
from edge_agent.serving.phases import Phase
from edge_agent.serving.released import About, InUse, Release, Served, Verdict, Wish, Workshop, refused_for

_log = logging.getLogger(__name__)


#: Said where the broker keeps nothing.
_NOT_KEPT: Final = (
    "the broker keeps no retained messages: a manifest comes only while this node is connected, and the pieces of files only while it asks for them; "
    "install models with edge-agent model install, or use another broker"
)


class Updates:
    """The updates of one plan: `served` are its models by the names that routes use. `fits` raises `SettingsError` when a route
    can't use other models in the place of what it has; `clock` gives seconds, `now` the time of day. `contests` are those of the
    plan.
    """

    def __init__(
        self,
        about: About,
        served: Mapping[str, Served],
        workshop: Workshop,
        *,
        clock: Callable[[], float],
        now: Callable[[], str],
        fits: Callable[[Mapping[str, Served]], None] = lambda _: None,
        contests: Mapping[str, Contesting] = MappingProxyType({}),
    ) -> None:
        self.about = about
        #: Whether there is more to do at once: the loop need not wait for messages.
        self.hurries = False
        self._served = served
        self._plan = InUse(about, served, workshop, fits, contests)
        self._course = Course(self._plan, clock, now)
        self._blobs = topics.blob(about.channel, "", "")[:-1]
        self._say_again()

    # -- the connection

    @property
    def subscriptions(self) -> dict[str, bool]:
        """What it listens to at all times, and the piece that is fetched now; each with whether what the broker has retained is wanted on
        every connection: the session of one that was off for long may be gone, or full.
        """
        checking = self._course.checking
        if not self.about.channel:
            return {}
        return {checking.keys: True, checking.manifest: True, **self._pieces}

    def has_changed(self) -> bool:
        """Tell, once, whether `subscriptions` are others than before."""
        before, self._course.asked = self._course.asked, dict(self._pieces)
        return before != self._course.asked

    @property
    def _pieces(self) -> Mapping[str, bool]:
        release = self._course.release
        return {} if release is None or release.fetching is None else release.fetching.wanted

    def reconnected(self) -> None:
        """Note a new connection: everything is said again. Without one there was nothing to watch, so that time does not count."""
        self._course.was_away = True
        self._course.checking.reconnected()
        self._say_again()

    def _say_again(self) -> None:
        self._course.telling.repeat(self._served)
        if (release := self._course.release) is not None and release.fetching is not None:
            release.fetching.again()

    def heard(self, message: Message) -> bool:
        """Take a message that no route takes; return whether it is for this."""
        course, topic = self._course, message.topic
        if course.checking.heard(topic, message.payload):
            return True
        if not topic.startswith(self._blobs):
            return False
        if (release := course.release) is not None and release.fetching is not None:
            try:
                if release.fetching.take(topic, message.payload):
                    for name in release.names:
                        course.telling.progress(name, release.reached())
            except EdgeAgentError as error:
                course.failed(release, error)
        return True

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do or to say: asked in each turn of the loop."""
        course = self._course
        return (
            course.has_looked
            and course.release is None
            and course.unwatched is None
            and course.telling.is_done
            and course.checking.is_idle
            and not course.errands
        )

    def turn(self, refused: Sequence[Refused] = (), *, busy: bool = False, retains: bool = True) -> None:
        """Go on. `refused` are subscriptions that the broker refuses; `busy` says that messages wait, `retains` that the broker keeps
        messages for those who come later.
        """
        course = self._course
        if not course.has_looked and not course.errands:
            course.look()
        course.stand()
        if self.about.channel and not retains:
            course.telling.warn(self._served, _NOT_KEPT)
        if course.errands and course.errands[0].ended:
            course.end_errand(course.errands.pop(0))
        outcome = course.checking.turn(self._plan.workshop)
        if isinstance(outcome, EdgeAgentError):
            self._not_accepted(outcome)
        elif outcome is not None:
            self._accepted(outcome)
        if course.following is not None and not (
            course.release is not None and self._has_to_wait(course.release, course.following)
        ):
            following, course.following = course.following, None
            self._accepted(following)
        course.resume()
        self.hurries = False
        if (release := course.release) is not None:
            before = release.phase, release.job, release.fetching
            course.go_on(release, refused, busy=busy, retains=retains)
            self.hurries = before != (release.phase, release.job, release.fetching)

    def unsaid(self) -> Iterator[Answer]:
        """Yield what is to be said of models: each counts as said when the next is asked for."""
        return self._course.telling.unsaid(self._served)

    @property
    def health(self) -> UpdateProgress | None:
        """How far an update has come; None while there is none."""
        return None if self._course.release is None else self._course.release.progress

    # -- requests, and plans

    def install(self, name: str) -> tuple[list[str], str | None]:
        """Install what is there or on its way, of one model or (empty) of all: all models of a manifest change together. Return their names,
        and why there are none.
        """
        release = self._course.release
        if release is None or release.approved or release.phase not in {Phase.FETCHING, Phase.VERIFIED}:
            return [], "no update waits to be installed"
        if name and name not in release.names:
            return [], f"no update of {name!r} waits to be installed; of {', '.join(release.names)} there is one"
        release.approved = True
        return release.names, None

    def take_over(self, former: Updates) -> None:
        """Go on after a reload: with what is under way, and what was learned."""
        is_same = former.about.channel == self.about.channel
        watches = former._course.release is not None and former._course.release.is_served
        if former.about.node != self.about.node or not (is_same or watches):
            former.close()
            if former.about.node == self.about.node:
                self._course.telling.repeat(former._served)
            return
        course = self._course = former._course
        wish = course.take_wish()
        course.plan = self._plan
        if not is_same:
            course.follow(self.about.channel)
        self._say_again()
        course.telling.repeat(former._served)
        release = course.release
        if self.about != former.about:
            course.checking.once_more()
        if release is not None and self._served.keys() >= set(release.names):
            course.planned(release, wish, former._served)
            return
        course.has_looked = False
        if release is not None:
            _log.warning(
                "update: serial %d: %s is not watched any more: no route names it by that; what else is on trial begins again",
                release.manifest.serial,
                versions(file for file in release.files if file.name not in self._served),
            )
            course.drop(release)
        elif _digests(self._served) <= _digests(former._served):
            return
        course.checking.once_more()  # what the manifest says is looked at again

    @property
    def wish(self) -> Wish | None:
        """What the next plan is to be made of; None where none is asked for."""
        return self._course.wish

    def take_wish(self) -> Wish | None:
        """Return it, once."""
        return self._course.take_wish()

    def plan_refused(self, why: str) -> None:
        """Note that the plan that was wished for can't be made."""
        course = self._course
        release = course.release
        if release is None:
            return
        if release.verdict is not None:
            course.stop(release, release.verdict)
        elif release.is_being_placed:
            course.take_back(release, refused_for(why))
        elif release.proving is not None:
            course.go_back(release, refused_for(why))

    @property
    def holds(self) -> bool:
        """Whether the store is just being changed for a plan that is yet to be asked for."""
        return self._course.release is not None and self._course.release.is_being_placed

    def close(self) -> None:
        """End what is under way."""
        self._course.checking.close()
        for one in self._course.errands:
            one.close()
        self._course.errands.clear()
        if (release := self._course.release) is not None:
            if release.is_served:
                _log.info(
                    "update: serial %d: %s is not watched for now", release.manifest.serial, versions(release.files)
                )
            release.close()

    # -- manifests

    def _not_accepted(self, error: EdgeAgentError) -> None:
        _log.error("update: not accepted on channel %s: %s", self.about.channel, error)
        if self._course.release is None:  # else that goes on, and what is said of it is what counts
            for name in self._served:
                self._course.telling.tell(name, Phase.REFUSED, str(error))

    def _accepted(self, accepted: Offer) -> None:
        course, manifest = self._course, accepted.manifest
        before = course.release
        meant = accepted.is_for(self.about.node)
        if before is not None:
            if before.manifest == manifest and (meant or before.is_being_placed or before.is_served):
                before.evidence = accepted.evidence
                return  # the same once more, for another wave, or signed by others
            if self._has_to_wait(before, accepted):
                course.following = accepted
                return
            _log.info("update: serial %d supersedes %d", manifest.serial, before.manifest.serial)
            course.supersede(before)
        files = [file for file in manifest.models if file.name in self._served]
        for file in files:
            course.telling.tell(file.name, Phase.IDLE, None, serial=manifest.serial, latest=file)
        changes = self._changes(manifest)
        if not (meant and changes):
            return
        _log.info(
            "update: serial %d of channel %s: %s",
            manifest.serial,
            manifest.channel,
            versions(changes),
        )
        release = course.release = Release(accepted, changes)
        try:
            verdict = next(filter(None, (self._objection(file, manifest) for file in changes)), None)
        except EdgeAgentError as error:
            course.failed(release, error)
        else:
            if verdict is not None:
                course.stop(release, verdict)
            else:
                course.become(release, Phase.FETCHING)

    def _changes(self, manifest: Manifest) -> list[ModelFile]:
        served = self._served
        return [file for file in manifest.models if file.name in served and served[file.name].sha256 != file.sha256]

    def _has_to_wait(self, release: Release, accepted: Offer) -> bool:
        """Whether a manifest is followed later: what is being put in place has to be in place first, and what is served is watched to the end,
        unless all of it is to be something else.
        """
        if release.is_being_placed or not release.is_served:
            return release.is_being_placed
        changes = {file.name for file in self._changes(accepted.manifest)}
        return not (changes.issuperset(release.names) and accepted.is_for(self.about.node))

    def _objection(self, file: ModelFile, manifest: Manifest) -> Verdict | None:
        """Return why a file is not worth fetching."""
        if file.size > self.about.max_bytes:
            return refused_for(
                f"{file.name} {file.version} has {file.size} bytes, more than update.max_bytes ({self.about.max_bytes}); "
                "raise that, or make a smaller model"
            )
        return self._plan.workshop.verdict(file, manifest.serial)


def _digests(served: Mapping[str, Served]) -> set[tuple[str, str]]:
    return {(name, one.sha256) for name, one in served.items()}

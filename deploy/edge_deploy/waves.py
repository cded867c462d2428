"""Waves: which nodes take a release first. A wave is what the envelope of the manifest names (`edge_agent.contract.manifest`).

`--waves 1,10%,100%`: a number is so many nodes, which are picked; a share, a node's id and a pattern are taken as they are. Each wave
keeps those before it, so a node that has taken a release is never left out by a later wave.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from edge_agent.contract.manifest import Channel, Envelope, place_of, share_of
from edge_agent.errors import InputError
from edge_agent.wording import plain

_MOST: Final = 20
#: Most nodes that a number may pick: the envelope names each.
_MOST_PICKED: Final = 200
_ENTRY: Final = re.compile(r"[A-Za-z0-9._*-]{1,64}")


class Wave(NamedTuple):
    """One wave: so many nodes, or an entry for the envelope."""

    text: str

    @property
    def number(self) -> int | None:
        """How many nodes, where it is a number."""
        return int(self.text) if self.text.isdecimal() else None


def parse(text: str) -> list[Wave]:
    """Read `--waves`. Raises `InputError`."""
    waves = [Wave(part.strip()) for part in text.split(",")]
    if len(waves) > _MOST:
        raise InputError(f"--waves: {len(waves)} of them; {_MOST} are enough")
    least = 0.0
    for wave in waves:
        share = share_of(wave.text)
        if wave.number is not None:
            if not wave.text.isascii() or not 1 <= wave.number <= _MOST_PICKED:
                raise InputError(
                    f"--waves: {plain(wave.text)}: a number of nodes is 1 to {_MOST_PICKED}; write a share above that"
                )
        elif share is not None:
            if not least < share <= 1:
                raise InputError(f"--waves: {wave.text}: shares grow, up to 100%")
            least = share
        elif not _ENTRY.fullmatch(wave.text):
            raise InputError(
                f"--waves: {plain(wave.text) or 'an empty one'}: write a number of nodes, a share such as 10%, a node's id or a "
                "pattern of ids, with commas between them: 1,10%,100%"
            )
    return waves


def entries(
    waves: Sequence[Wave], last: int, channel: Channel, nodes: Sequence[str], before: Sequence[str]
) -> tuple[str, ...] | None:
    """Return the entries of the waves up to number `last`, None when they are all nodes. `nodes` are those to pick from, `before` the
    entries that are published by now, which stay.
    """
    found = list(before)
    named = _picked(waves, before)
    free = (node for node in nodes if node not in named and Wave(node) not in waves)
    rest = sorted(free, key=lambda node: place_of(node, channel))
    for wave in waves[: last + 1]:
        if wave.number is None:
            found.append(wave.text)
        else:
            # Who stands first in the channel is within each share that comes later.
            found += (named + rest)[: wave.number]
    return None if any(entry == "*" or share_of(entry) == 1 for entry in found) else tuple(dict.fromkeys(found))


def reached(waves: Sequence[Wave], envelope: Envelope) -> int:
    """Return the number of the last wave that a published manifest includes; -1 for none."""
    if envelope.wave is None:
        return len(waves) - 1
    published = envelope.wave
    picked = len(_picked(waves, published))
    largest = max((share for entry in published if (share := share_of(entry)) is not None), default=0.0)

    def includes(wave: Wave) -> bool:
        if wave.number is not None:
            return picked >= wave.number
        share = share_of(wave.text)
        return wave.text in published if share is None else share <= largest

    return max((number for number, wave in enumerate(waves) if includes(wave)), default=-1)


def _picked(waves: Sequence[Wave], published: Sequence[str]) -> list[str]:
    """Return the nodes that a number picked: they stand in the envelope by their ids, and no wave names them so."""
    return [entry for entry in published if "*" not in entry and "%" not in entry and Wave(entry) not in waves]

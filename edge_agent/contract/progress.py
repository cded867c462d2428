"""The wire contract of updates: what a node says of the versions of its models (`edge_agent.contract.messages` has the rest)."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # as in edge_agent.contract.messages


class ProcessorTime(TypedDict):
    """What two models take for one row, in microseconds of processor time."""

    before: float
    candidate: float


class Compared(TypedDict):
    """How a candidate compares with the model before it, for rows that the model before takes: how many there were, on how many the
    candidate fails, and how many it rejects. `agreement` is the share of equal answers among those `compared`, None without any;
    `differing` the most frequent pairs of labels that differ, that of the model before first, with their number.

    `skipped` counts messages that neither was asked about, for lack of time; `incomparable` rows whose answers have nothing in common;
    `remarks` say what is not compared.
    """

    rows: int
    skipped: int
    rejected: int
    failed: int
    compared: int
    agreement: float | None
    differing: list[tuple[str, str, int]]
    incomparable: int
    microseconds: ProcessorTime | None
    remarks: list[str]


class ModelState(TypedDict):
    """The versions of a model, and how far an update of it has come; retained. `sha256` is that of the installed version.

    Without updates over MQTT it is there while Home Assistant is told of it, and what is installed is the latest one, as far as is
    known. With them `channel` is the one that the node follows, `serial` that of the manifest that `latest_version` comes from, `since`
    when the state began, and `reason` why it is this one, where there is more to say. `compared` are the figures of a candidate, as they
    were when this was said.
    """

    installed_version: str
    latest_version: str
    in_progress: bool
    title: str
    state: Literal["idle", "fetching", "verified", "testing", "shadow", "canary", "committed", "rolled_back", "refused"]
    update_percentage: NotRequired[int | None]
    release_summary: NotRequired[str]
    channel: NotRequired[str]
    serial: NotRequired[int | None]
    sha256: NotRequired[str]
    since: NotRequired[str]
    reason: NotRequired[str | None]
    compared: NotRequired[Compared]


class UpdateProgress(TypedDict):
    """How far an update of models has come: the manifest's serial, the state, the pieces of files that are there, of how many, and
    how many had to be fetched again because they were `damaged`, or did not come (`absent`). `compared` has the figures of candidates by the
    names of their models.
    """

    serial: int
    state: str
    models: list[str]
    fetched: int
    pieces: int
    damaged: int
    absent: int
    compared: NotRequired[dict[str, Compared]]


class Installing(TypedDict):
    """The answer to the request `install`: the models that are installed now, and why there is none, where there is none."""

    installing: list[str]
    reason: str | None

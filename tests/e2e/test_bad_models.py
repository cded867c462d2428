"""Models that loop, eat memory or give the wrong shapes: refused at start, by `try` and by `check`, and at a reload beside
the service, which answers on.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="builds models; needs the extra `convert`")

from tests import bad_models
from tests.contract.client import Client
from tests.e2e.conftest import Agent, call

MIB = 1 << 20
BAD: list[tuple[Callable[[], bytes], str]] = [
    # On a busy machine the limit on the clock comes first.
    (bad_models.endless, r"it exceeded its limit of (5 s of processor time|20 s)\b"),
    (bad_models.huge, "not enough memory"),
    (bad_models.fewer_labels, "the graph does not match its card: for 2 rows"),
]


def put(path: Path, content: bytes) -> Path:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    return new.rename(path)


@pytest.mark.parametrize(("make", "why"), BAD)
def test_one_sentence_at_start_and_by_try_and_check(
    edge_agent: Path, elsewhere: Path, make: Callable[[], bytes], why: str
) -> None:
    path = put(elsewhere / "bad.onnx", make())
    (elsewhere / "agent.toml").write_text(f'[[route]]\nmodel = "{path}"\n')
    for command in (("run", "--config", "agent.toml"), ("try", "--model", path, '{"loudness": 0.9}')):
        done = call(edge_agent, *command)
        assert (done.returncode, done.stdout) == (3, "")
        line = done.stderr.splitlines()[-1]
        assert line.startswith(f"edge-agent: {path}: ")
        assert re.search(why, line)
        assert "Traceback" not in done.stderr
    done = call(edge_agent, "check", "--config", "agent.toml", "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    (finding,) = [one for one in json.loads(done.stdout)["findings"] if one["what"] == "model"]
    assert finding["verdict"] == "fail"
    assert re.search(why, finding["message"])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "is a pipe, not a file"),
        (os.mkdir, "Is a directory, not a file"),
        (lambda path: path.symlink_to("gone"), "it is a link to gone; fix the link"),
        (lambda path: path.symlink_to(path), "it is a circular link; fix the link"),
    ],
)
def test_one_sentence_about_what_is_no_file(
    edge_agent: Path, elsewhere: Path, make: Callable[[Path], Any], why: str
) -> None:
    path = elsewhere / "bad.onnx"
    make(path)
    (elsewhere / "agent.toml").write_text(f'[[route]]\nmodel = "{path}"\n')
    for command in (("run", "--config", "agent.toml"), ("try", "--model", path, "{}")):
        done = call(edge_agent, *command)
        assert (done.returncode, done.stdout) == (3, "")
        assert why in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    done = call(edge_agent, "check", "--config", "agent.toml", "--json")
    assert done.returncode == 3
    (finding,) = [one for one in json.loads(done.stdout)["findings"] if one["what"] == "model"]
    assert why in f"{finding['message']}; {finding['mend']}"


class Asking:
    """Questions, one after the other, each with its answer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.answered = 0

    def __call__(self) -> dict[str, Any]:
        self.answered += 1
        number = self.answered
        self._client.publish("music/hall/features", {"loudness": 0.9, "id": number})
        message = self._client.wait_for(lambda one: one.topic == "music/hall/genre" and _id(one.payload) == number)
        found: dict[str, Any] = json.loads(message.payload)
        self._client.forget()
        return found


def _id(payload: bytes | bytearray) -> object:
    return json.loads(payload).get("id")


def test_a_reload_goes_on_beside_the_service(agent: Agent, client: Client, elsewhere: Path) -> None:
    path = put(elsewhere / "mine.onnx", bad_models.honest())
    client.subscribe("edge/#", "music/+/genre/#")
    agent.start(EDGE_AGENT_ROUTE=json.dumps([{"model": str(path)}]))
    client.wait_for_payload("edge/node/state", "online")
    ask = Asking(client)
    for _ in range(50):
        assert ask()["label"] == "Rock"
    before = agent.memory()
    for refused, (make, why) in enumerate(BAD, start=1):
        put(path, make())
        agent.send(signal.SIGHUP)
        asked = ask.answered
        while agent.log().count("reload rejected, going on with the old settings and models") < refused:
            assert ask()["label"] == "Rock"
        assert re.search(why, agent.log())
        if make is bad_models.endless:
            # It did not wait for the seconds that this takes.
            assert ask.answered - asked > 20
        assert ask()["label"] == "Rock"
    put(path, bad_models.honest())
    agent.send(signal.SIGHUP)
    client.wait_for(lambda one: one.topic == "edge/node/info")
    assert ask()["label"] == "Rock"
    assert "Traceback" not in agent.log()
    assert agent.memory().growth(before) < 16 * MIB
    assert agent.stop() == 0


@pytest.mark.parametrize("serving", [True, False])
def test_a_stop_is_obeyed_while_a_model_is_tried(
    agent: Agent, client: Client, elsewhere: Path, *, serving: bool
) -> None:
    path = put(elsewhere / "mine.onnx", bad_models.honest() if serving else bad_models.endless())
    client.subscribe("edge/#")
    agent.start(EDGE_AGENT_ROUTE=json.dumps([{"model": str(path)}]))
    assert agent.process is not None
    pid = agent.process.pid
    if serving:
        client.wait_for_payload("edge/node/state", "online")
        put(path, bad_models.endless())
        agent.send(signal.SIGHUP)
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (found := children.read_text().split()):
        assert agent.process.poll() is None
    assert agent.stop() == 0
    # Nothing of it stays.
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[0]), 0)
    assert "Traceback" not in agent.log()


def test_reloads_that_come_thick_and_fast(agent: Agent, client: Client) -> None:
    client.subscribe("edge/#", "music/+/genre/#")
    agent.start()
    client.wait_for_payload("edge/node/state", "online")
    client.message("edge/node/info")
    client.publish("music/hall/features", "[]")
    for number in range(500):
        agent.send(signal.SIGHUP)
        client.publish("music/hall/features", "{}", wait=False)
        if number % 50 == 0:
            client.messages(number + 1, "music/hall/genre/error")
    client.messages(500, "music/hall/genre/error")
    # The last one is taken up, too.
    client.wait_for(lambda _: agent.log().count("reloaded") >= 2)
    assert agent.log().count("reloaded") < 100
    assert agent.stop() == 0

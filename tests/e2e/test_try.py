"""`edge-agent try`: the smoke test without a broker."""

from __future__ import annotations

import csv
import json
import subprocess
import threading
from pathlib import Path

import pytest

from tests.e2e.conftest import call
from tests.e2e.tracks import HIP_HOP, IMPOSSIBLE, ROCK
from tests.patience import DEADLINE

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_the_examples_of_the_card(edge_agent: Path) -> None:
    done = call(edge_agent, "try")
    assert done.returncode == 0, done.stderr
    assert "Rock" in done.stdout
    assert "Hip-Hop" in done.stdout


@pytest.mark.parametrize(("track", "label"), [(HIP_HOP, "Hip-Hop"), (ROCK, "Rock")])
def test_a_track_as_an_argument(edge_agent: Path, track: dict[str, float], label: str) -> None:
    done = call(edge_agent, "try", json.dumps(track))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["label"] == label
    assert answer["model"] == "genre"
    assert answer["probabilities"].keys() == {"Hip-Hop", "Rock"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert answer["confidence"] == max(answer["probabilities"].values())


def test_a_batch_as_an_argument(edge_agent: Path) -> None:
    done = call(edge_agent, "try", json.dumps([HIP_HOP, IMPOSSIBLE, ROCK]))
    assert done.returncode == 1, done.stderr
    first, second, third = json.loads(done.stdout)
    assert (first["label"], third["label"]) == ("Hip-Hop", "Rock")
    assert second["error"] == "invalid_features"


def test_lines_in_lines_out(edge_agent: Path) -> None:
    lines = [json.dumps({**ROCK, "id": 1}), "not json", json.dumps(IMPOSSIBLE), json.dumps({**HIP_HOP, "id": "b"})]
    done = call(edge_agent, "try", "-", input="\n".join(lines) + "\n")
    assert done.returncode == 1, done.stderr
    rock, broken, impossible, hip_hop = (json.loads(line) for line in done.stdout.splitlines())
    assert (rock["label"], rock["id"]) == ("Rock", 1)
    assert broken["error"] == "malformed_payload"
    assert impossible["error"] == "invalid_features"
    (detail,) = impossible["detail"]
    assert detail.keys() >= {"type", "loc", "msg", "input"}
    assert "energy" in detail["loc"]
    assert (hip_hop["label"], hip_hop["id"]) == ("Hip-Hop", "b")


def test_many_lines(edge_agent: Path) -> None:
    done = call(edge_agent, "try", "-", input="\n".join([json.dumps(ROCK)] * 500))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["Rock"] * 500


def test_lines_are_answered_as_they_come(edge_agent: Path) -> None:
    """Such as from `mosquitto_sub`, which does not end."""
    with subprocess.Popen([edge_agent, "try", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(DEADLINE, process.kill)
        late.start()
        try:
            for _ in range(2):
                process.stdin.write(json.dumps(ROCK).encode() + b"\n")
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["label"] == "Rock"
        finally:
            late.cancel()
            process.stdin.close()


def test_what_is_put_off_comes_at_its_time_while_the_input_stays_open(edge_agent: Path, elsewhere: Path) -> None:
    (elsewhere / "a.toml").write_text(
        '[[route]]\nsubscribe = "a/{x}"\npublish = "b/{x}"\npartial = "merge"\ndebounce = 0.2\n'
    )
    with subprocess.Popen(
        [edge_agent, "try", "--config", "a.toml"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(DEADLINE, process.kill)
        late.start()
        try:
            for track, label in ((ROCK, "Rock"), (HIP_HOP, "Hip-Hop")):
                process.stdin.write(b"a/k " + json.dumps(track).encode() + b"\n")
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["payload"]["label"] == label
        finally:
            late.cancel()
            process.stdin.close()


def test_a_full_disk_is_said_in_one_line(edge_agent: Path) -> None:
    for arguments in ([], ["-"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [edge_agent, "try", *arguments],
                input=b"{}",
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
                timeout=600,
            )
        assert done.returncode == 1, done.stderr
        assert done.stderr == b"edge-agent: standard output: No space left on device\n"


def test_files(edge_agent: Path, elsewhere: Path) -> None:
    (elsewhere / "one.json").write_text(json.dumps(ROCK))
    (elsewhere / "many.ndjson").write_text(f"{json.dumps(ROCK)}\n{json.dumps(HIP_HOP)}\n")
    with (elsewhere / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["title", *ROCK])
        writer.writeheader()
        writer.writerow({"title": "a", **ROCK})
        writer.writerow({"title": "b", **HIP_HOP})
    for name, labels in (
        ("one.json", ["Rock"]),
        ("many.ndjson", ["Rock", "Hip-Hop"]),
        ("table.csv", ["Rock", "Hip-Hop"]),
    ):
        done = call(edge_agent, "try", name)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == labels, name


def test_a_configuration_answers_on_its_topics(edge_agent: Path, elsewhere: Path) -> None:
    (elsewhere / "a.toml").write_text('[[route]]\nsubscribe = "a/{x}"\npublish = "b/{x}"\npartial = "merge"\n')
    to = ("try", "--config", "a.toml")
    done = call(edge_agent, *to, "--topic", "a/k", json.dumps(ROCK))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["topic"], answer["payload"]["label"]) == ("b/k", "Rock")

    parts = [dict(list(ROCK.items())[:3]), dict(list(ROCK.items())[3:])]
    done = call(edge_agent, *to, "--topic", "a/k", input="\n".join(map(json.dumps, parts)))
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert done.stderr.startswith("a/k: no answer yet: k still lacks ")

    lines = [json.dumps({"topic": "a/1", "payload": ROCK}), f"a/2 {json.dumps(HIP_HOP)}", 'a/3 {"tempo": -1}', "c 1"]
    (elsewhere / "lines.ndjson").write_text("\n".join(lines))
    for arguments, options in ((["lines.ndjson"], {}), ([], {"input": "\n".join(lines)})):
        done = call(edge_agent, *to, *arguments, **options)
        assert done.returncode == 1, done.stderr
        topics = [json.loads(line)["topic"] for line in done.stdout.splitlines()]
        assert topics == ["b/1", "b/2", "b/3/error"]
        assert done.stderr == "c: no route takes this topic; the routes take a/{x}\n"


def test_usage_is_2(edge_agent: Path) -> None:
    for arguments in (
        ["--no-such-option"],
        ["no-such-file.json"],
        ["a", "b"],
        ["--topic", "a", "--model", "genre", "{}"],
        ["--config", "no-such-file.toml", "{}"],
        ["--topic", "a", "no-such-file.json"],
    ):
        done = call(edge_agent, "try", *arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr


def test_an_unusable_model_is_3(edge_agent: Path, elsewhere: Path) -> None:
    (elsewhere / "not-a-model.onnx").write_bytes(b"this is not ONNX")
    (elsewhere / "empty.onnx").write_bytes(b"")
    for name in ("not-a-model.onnx", "empty.onnx"):
        done = call(edge_agent, "try", "--model", name, json.dumps(ROCK))
        assert done.returncode == 3, (done.stdout, done.stderr)
        assert name in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""

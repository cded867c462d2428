"""The Containerfile and the compose file, as they are written. tests/pi/test_container.py builds and runs them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.containerfile import CONTAINERFILE, IGNORE, ROOT, Config, Stage, config, is_ignored, packages, stages

if not CONTAINERFILE.exists():
    pytest.skip("the clone is not here: this is the wheel's suite", allow_module_level=True)

#: What no requirement of the project says: the system's authorities, for TLS, and the extra for CBOR.
BESIDES = {"ca-certificates", "python3-cbor2"}
COMPOSE = CONTAINERFILE.with_name("compose.yaml")


@pytest.fixture(scope="module")
def built() -> list[Stage]:
    return stages(CONTAINERFILE.read_text())


@pytest.fixture(scope="module")
def image(built: list[Stage]) -> Config:
    return config(built[-1].steps)


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text())


def test_it_stands_on_what_the_project_asks_for(built: list[Stage]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {f"python3-{re.split('[<>=!]', requirement)[0]}" for requirement in project["dependencies"]}
    assert set(packages(built[-1].steps)) == wanted | BESIDES


def test_all_stages_have_the_same_base_which_can_be_replaced() -> None:
    assert {stage.base for stage in stages(CONTAINERFILE.read_text())} == {"docker.io/library/debian:trixie-slim"}
    assert {stage.base for stage in stages(CONTAINERFILE.read_text(), BASE="mine")} == {"mine"}


def test_it_runs_as_a_number_that_is_not_root(image: Config) -> None:
    # Kubernetes' runAsNonRoot can't look a name up.
    assert all(int(number) > 0 for number in image.user.split(":"))


def test_signals_reach_the_agent(image: Config) -> None:
    assert (image.entrypoint, image.command, image.stop_signal) == (["edge-agent"], ["run"], "SIGTERM")


def test_the_image_decides_nothing_about_the_network_and_holds_no_secret(image: Config) -> None:
    assert not [name for name in image.environment if name.startswith("EDGE_AGENT_")]
    assert not [name for name in image.environment if re.search("(?i)password|secret|token|key", name)]
    assert image.environment["ORT_DISABLE_TELEMETRY"] == "1"


def test_what_is_copied_may_be_seen_and_nothing_else(built: list[Stage]) -> None:
    patterns = IGNORE.read_text()
    copied = [word for one in built[0].steps if one.name == "COPY" and not one.flags for word in one.words({})[:-1]]
    assert [name for name in copied if is_ignored(name, patterns)] == []
    assert [name for name in copied if not (ROOT / name).exists()] == []
    seen = {path.name for path in ROOT.iterdir() if not is_ignored(path.name, patterns)}
    assert seen == set(copied)
    assert is_ignored("edge_agent/cli/__pycache__/run.cpython-313.pyc", patterns)
    assert not is_ignored("edge_agent/cli/run.py", patterns)


def test_the_health_check_is_the_same_everywhere(image: Config, compose: Any) -> None:
    assert image.health is not None
    said = compose["services"]["agent"]["healthcheck"]
    assert said.pop("test") == ["CMD", *image.health.command]
    assert {key.replace("_", "-"): str(value) for key, value in said.items()} == image.health.options
    line = next(line for line in CONTAINERFILE.read_text().splitlines() if line.startswith("HEALTHCHECK"))
    assert line in (ROOT / "docs" / "check.md").read_text().splitlines()


@pytest.mark.parametrize("name", ["agent", "mosquitto"])
def test_no_service_has_more_rights_than_it_needs(compose: Any, name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert set(service["secrets"]) <= compose["secrets"].keys()


def test_no_secret_is_committed_by_mistake(compose: Any) -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for secret in compose["secrets"].values():
        assert f"/deploy/container/{Path(secret['file']).parent}/" in ignored


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FROM a\nADD x y", "ADD"),
        ("FROM a\nVOLUME /x", "VOLUME"),
        ("FROM --platform=x a", "platform"),
        ("FROM a\nCOPY --chown=1 x y", "chown"),
        ("FROM a\nRUN <<X\nX", "RUN"),
        ('FROM a\nRUN ["x"]', "RUN"),
        ("FROM a\nRUN x \\\n", "backslash"),
        ("FROM ${B}", "B"),
        ("RUN x", "before the first FROM"),
        ("FROM a b c", "IMAGE"),
        ("from a", "from"),
    ],
)
def test_what_is_not_known_is_an_error(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stages(text)


@pytest.mark.parametrize("text", ["CMD run", "ENTRYPOINT run it", "CMD []", "HEALTHCHECK NONE", "ENV A 1", "USER ${U}"])
def test_what_would_not_run_as_meant_is_an_error(text: str) -> None:
    (stage,) = stages(f"FROM a\n{text}")
    with pytest.raises(ValueError, match="line 2"):
        config(stage.steps)


def test_a_containerfile_is_read_as_an_engine_reads_it() -> None:
    text = """
# comment
ARG A=x
FROM $A:1 AS one
RUN a \\
    # in between
    && b
COPY --from=zero p q r/
FROM two
ENV B="1 2" C=3
LABEL d.e="${C}"
ENTRYPOINT ["x"]
"""
    one, two = stages(text)
    assert (one.name, one.base, two.name, two.base) == ("one", "x:1", None, "two")
    assert [(step.line, step.name, step.rest.split()) for step in one.steps] == [
        (5, "RUN", ["a", "&&", "b"]),
        (8, "COPY", ["p", "q", "r/"]),
    ]
    assert one.steps[1].flags == {"from": "zero"}
    read = config(two.steps)
    assert (read.environment["B"], read.labels, read.entrypoint) == ("1 2", {"d.e": "3"}, ["x"])


@pytest.mark.parametrize(
    ("path", "ignored"),
    [("secret", True), ("a", False), ("a/b/c", False), ("b/a", True), ("a/x/y", True), ("a/d.pyc", True)],
)
def test_an_ignore_file_is_read_as_an_engine_reads_it(path: str, ignored: bool) -> None:
    assert is_ignored(path, "# all\n*\n!a\n**/x\n**/*.pyc\n") is ignored

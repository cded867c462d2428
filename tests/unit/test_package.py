"""The Debian package says what the project says: dependencies, version, units, manual pages. tests/e2e/test_deb.py builds it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import edge_agent
from edge_agent.cli.main import cli

manpages = pytest.importorskip("deploy.deb.manpages", reason="the clone is not here: this is the wheel's suite")

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / "deploy" / "deb" / "debian"
#: Debian's numpy has an epoch.
EPOCHS = {"python3-numpy": "1:"}


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def relations(field: str) -> set[str]:
    """The relations in a field of debian/control, such as "python3-click (>= 8.1)"."""
    (value,) = re.findall(rf"^{field}:((?:.*\n)(?:^ .*\n)*)", (DEBIAN / "control").read_text(), flags=re.MULTILINE)
    return {relation.strip() for relation in str(value).split(",")}


def as_debian(requirement: str) -> set[str]:
    """The bounds of one of pyproject's requirements; a single excluded version was never in Debian 13."""
    name, *_ = re.split(r"[<>=!]", requirement)
    package = f"python3-{name}"
    bounds = re.findall(r"(>=|<)([\d.]+)", requirement)
    return {f"{package} ({'<<' if sign == '<' else sign} {EPOCHS.get(package, '')}{to})" for sign, to in bounds}


def test_the_bounds_are_those_of_the_project(project: Any) -> None:
    wanted = set().union(*(as_debian(requirement) for requirement in project["dependencies"]))
    assert len(wanted) >= len(project["dependencies"])
    libraries = {relation for relation in relations("Depends") if relation.startswith("python3-")}
    assert libraries == wanted
    # The program is run once while the package is built.
    assert {relation for relation in wanted if ">=" in relation} <= relations("Build-Depends")
    extras = project["optional-dependencies"]
    assert relations("Recommends") == as_debian(extras["cbor"][0]) | as_debian(extras["watch"][0])


def test_the_distribution_has_a_name_of_its_own(project: Any) -> None:
    """PyPI's edge-agent is another project, with the same import name; ours is not there under any name."""
    assert project["name"] == "edge-label-agent"
    assert set(project["scripts"]) == {"edge-agent", "edge-convert", "edge-deploy"}


#: To be installed by name, from wherever pip looks: what it would get is not ours. A path, a wheel or a .deb is.
BY_NAME = re.compile(
    r"\b(?:pip3?|pipx|uv|uvx)\s+(?:tool\s+)?install\b[^\n`]*?(?<![\w./-])edge[-_](?:label[-_])?agent(?![\w./-])"
)


@pytest.mark.parametrize(
    ("advice", "of_a_stranger"),
    [
        ("pip install 'edge-agent[demo]'", True),
        ("pip3 install --upgrade edge-agent", True),
        ("uv tool install edge_agent", True),
        ("pip install edge-label-agent==1.0.0", True),
        ("pip install '.[demo]'", False),
        ("pip install ./edge_label_agent-1.0.0-py3-none-any.whl", False),
        ("apt install ./edge-agent_1.0.0_all.deb", False),
        ("pip install cbor2", False),
    ],
)
def test_advice_is_told_apart(advice: str, *, of_a_stranger: bool) -> None:
    assert bool(BY_NAME.search(advice)) == of_a_stranger


def test_nothing_advises_to_install_a_strangers_package() -> None:
    # Where it is told what not to do, and why.
    excused = {"CHANGELOG.md", "docs/decisions/0020-distribution-name.md", "tests/unit/test_package.py"}
    folders = ("benchmarks", "convert", "deploy", "docs", "edge_agent", "scripts", "systemd", "tests")
    found = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    pages = {str(path.relative_to(ROOT)) for path in found if path.is_file() and path.suffix != ".pyc"} - excused
    assert len(pages) > 100
    assert [name for name in sorted(pages) if BY_NAME.search((ROOT / name).read_text(errors="replace"))] == []


def test_the_version_has_its_place_in_the_changelog() -> None:
    """A version in the making stands under [Unreleased]; a released one has its date."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:]]
    assert all(released), headings
    newest = next(found[1] for found in released if found)
    version, in_the_making, _ = edge_agent.__version__.partition(".dev")
    order = tuple(map(int, version.split("."))), tuple(map(int, newest.split(".")))
    assert order[0] > order[1] if in_the_making else order[0] == order[1]


@pytest.mark.parametrize(
    ("version", "debian"),
    [("1.1.0", "1.1.0"), ("1.1.0.dev0", "1.1.0~dev0"), ("1.1.0rc1", "1.1.0~rc1"), ("1.1.0rc1.dev2", "1.1.0~rc1~dev2")],
)
def test_debian_sorts_what_comes_before_a_release_before_it(version: str, debian: str) -> None:
    def call(*command: str) -> str:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    assert call("bash", "-c", '. scripts/lib.sh && debian_version "$1"', "-", version) == debian
    if version != debian and shutil.which("dpkg"):
        call("dpkg", "--compare-versions", "1.0.0", "lt", debian)
        call("dpkg", "--compare-versions", debian, "lt", "1.1.0")


def test_the_inventory_names_the_package_that_is_built() -> None:
    name = f"edge-agent_{edge_agent.__version__.replace('.dev', '~dev')}_all.deb"
    assert name in (ROOT / "deploy" / "ansible" / "group_vars" / "edge_agents" / "main.yml").read_text()


def test_every_variable_of_the_role_is_declared_and_explained() -> None:
    role = ROOT / "deploy" / "ansible" / "roles" / "edge_agent"

    def names(file: str, indent: int) -> set[str]:
        return set(re.findall(rf"^ {{{indent}}}(edge_agent_\w+):", (role / file).read_text(), re.MULTILINE))

    defaults = names("defaults/main.yml", 0)
    assert names("meta/argument_specs.yml", 6) == defaults
    rows = [line for line in (ROOT / "docs" / "ansible.md").read_text().splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(edge_agent_\w+)`", row.split("|")[1])} == defaults


def test_the_units_differ_where_they_have_to() -> None:
    one = (ROOT / "systemd" / "edge-agent.service").read_text()
    each = (ROOT / "systemd" / "edge-agent@.service").read_text()
    own = [line for line in each.splitlines() if line not in one.splitlines()]
    settings = [line for line in own if not line.startswith("#")]
    assert settings == [
        "Description=Edge agent %i: features in over MQTT, labels out",
        "ExecStart=/usr/bin/edge-agent run --config /etc/edge-agent/%i.toml",
        "ExecReload=/usr/bin/edge-agent check --offline --quiet --config /etc/edge-agent/%i.toml",
        "RuntimeDirectory=edge-agent-%i",
        "ImportCredential=edge-agent.%i.mqtt-*:mqtt-",
    ]
    missing = [line for line in one.splitlines() if line not in each.splitlines()]
    assert [line.partition("=")[0] for line in missing] == [
        "Description",
        "ExecStart",
        "ExecReload",
        "RuntimeDirectory",
    ]


def test_a_credential_is_set_with_the_same_command_everywhere() -> None:
    """Without a name inside: systemd 257 would compare it with the name after ImportCredential= has changed it."""
    pages = [*(ROOT / "systemd").glob("*.service"), ROOT / "docs" / "security.md", *manpages.TEMPLATES.glob("*.5.in")]
    for page in pages:
        text = " ".join(re.sub(r"\\(-)|\\e?\n|^#", r"\1", page.read_text(), flags=re.MULTILINE).split())
        assert "systemd-ask-password -n | sudo systemd-creds encrypt --name= - /etc/cred" in text, page
        assert "/etc/credstore.encrypted/edge-agent.mqtt-password" in text, page


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    def ask(*words: str) -> str:
        return CliRunner().invoke(cli, words, prog_name="edge-agent").output

    found: dict[str, str] = manpages.pages(ask, manpages.CONFIGURATION.read_text(), epoch=86_400)
    return {name: page.replace("\\-", "-") for name, page in found.items()}


def commands(group: click.Group, *words: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*words, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)


def test_every_command_and_option_is_in_the_manual(pages: dict[str, str]) -> None:
    page = pages["edge-agent.1"]
    for name, command in commands(cli):
        section = page.partition(f"\n.SS edge-agent {name} ")[2].partition("\n.S")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.hidden:
                continue  # what a command calls itself with
            shown = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            assert shown in section, (name, shown)
        assert command.help
        assert command.help.split("\n")[0] in section


def test_every_setting_is_in_the_manual(pages: dict[str, str]) -> None:
    configuration = re.sub(r"^# (?=[a-z_]+ = |\[)", "", manpages.CONFIGURATION.read_text(), flags=re.MULTILINE)

    def keys(table: dict[str, Any]) -> set[str]:
        found = set()
        for key, value in table.items():
            inner = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
            found |= keys(inner) if isinstance(inner, dict) and key not in {"fields", "capture", "sensor"} else {key}
        return found

    shown = set(re.findall(r'^\.BR (\w+) " = ', pages["edge-agent.toml.5"], flags=re.MULTILINE))
    assert shown == keys(tomllib.loads(configuration))
    assert {"host", "subscribe", "fields", "level"} <= shown


def test_nothing_of_the_templates_is_left(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert f'1970-01-02 "edge-agent {edge_agent.__version__}"' in page
        assert not re.search(r"@[A-Z]+@", page)


def test_text_is_not_taken_for_requests() -> None:
    assert manpages.escape(".so x\n'y\\z -n") == "\\&.so x\n\\&'y\\ez \\-n"
    assert manpages.rejoin("  the file /etc/edge-\n     agent.toml, when it\n   is there") == (
        "the file /etc/edge-agent.toml, when it is there"
    )
    lines = ["# One.", "# [a]", '# b = "x-y"', "", "# Two", "# lines.", "#   c = 1", "# Three.", "# d = 2", "# e = 3"]
    assert list(manpages.settings(lines)) == [
        ".SS [a]",
        ".PP\nOne.",
        '.TP\n.BR b " = ""x\\-y"""',
        ".PP\nTwo lines.",
        ".EX\n  c = 1\n.EE",
        '.TP\n.BR d " = 2"\nThree.',
        '.TP\n.BR e " = 3"',
    ]

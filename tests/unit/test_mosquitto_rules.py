"""Mosquitto's access rules as the doctor reads them. That Mosquitto reads them so is in tests/contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.connection import Mqtt
from edge_agent.config.routes import RouteSettings
from edge_agent.config.settings import Node, Settings
from edge_agent.config.updating import Update
from edge_agent.doctor.mosquitto import Client, Rule, check_rules, reads, rules_for

KITCHEN = Client("kitchen", "edge-agent-kitchen")
#: That of docs/security.md.
ACL = """\
pattern readwrite edge/%u/#
user kitchen
topic read music/+/features
topic write music/+/genre
topic write music/+/genre/error
"""


@pytest.mark.parametrize(
    ("rule", "wanted", "covered"),
    [
        ("music/+/features", "music/+/features", "all"),
        ("music/#", "music/+/features", "all"),
        ("#", "music/+/features", "all"),
        ("+/+/features", "music/+/features", "all"),
        ("music/hall/features", "music/+/features", "some"),
        ("music/+/features", "music/hall/features", "all"),
        ("music/+", "music/+/features", "none"),
        ("music/+/features/#", "music/+/features", "all"),
        ("music/+/features/raw", "music/+/features", "none"),
        ("sport/+/features", "music/+/features", "none"),
        ("#", "$SYS/broker", "none"),
        ("$SYS/#", "$SYS/broker", "all"),
    ],
)
def test_how_much_a_rule_covers(rule: str, wanted: str, covered: str) -> None:
    assert reads([Rule("read", rule)], wanted) == covered
    assert reads([Rule("readwrite", rule)], wanted) == covered
    assert reads([Rule("write", rule)], wanted) == "none"


def test_what_is_denied_wins() -> None:
    allowed = Rule("read", "music/#")
    assert reads([allowed, Rule("deny", "music/+/features")], "music/+/features") == "none"
    assert reads([allowed, Rule("deny", "music/hall/features")], "music/+/features") == "some"
    assert reads([allowed, Rule("deny", "sport/#")], "music/+/features") == "all"
    assert reads([], "music/+/features") == "none"


def test_the_rules_of_a_client() -> None:
    text = """\
topic read everybody/without/a/name
pattern deny secret/%c/%u
# topic read nothing
user anna
topic #
user kitchen
topic with/no/access word
topic read  two/words here
pattern read of/all
"""
    assert list(rules_for(text, KITCHEN)) == [
        Rule("deny", "secret/edge-agent-kitchen/kitchen"),
        Rule("readwrite", "with/no/access word"),
        Rule("read", "two/words here"),
        Rule("read", "of/all"),
    ]
    assert list(rules_for(text, Client(None, "x"))) == [
        Rule("read", "everybody/without/a/name"),
        Rule("read", "of/all"),
    ]


def machine(root: Path, configuration: str, acl: str = ACL, *, brokers: int = 1) -> Path:
    """A machine on which Mosquitto runs, in a root directory of its own."""
    for pid in range(10, 10 + brokers):
        process = root / "proc" / str(pid)
        own = process / "root" / "etc" / "mosquitto"
        (own / "conf.d").mkdir(parents=True)
        (process / "comm").write_text("mosquitto\n")
        (process / "cmdline").write_bytes(b"/usr/sbin/mosquitto\0-c\0/etc/mosquitto/mosquitto.conf\0")
        (own / "mosquitto.conf").write_text("# ours\nlog_type all\ninclude_dir /etc/mosquitto/conf.d\n")
        (own / "conf.d" / "own.conf").write_text(configuration)
        (own / "acl").write_text(acl)
    other = root / "proc" / "7"
    other.mkdir(parents=True)
    (other / "comm").write_text("systemd\n")
    return root


def settings(**mqtt: object) -> Settings:
    known = {"host": "localhost", "username": "kitchen", **mqtt}
    return Settings(node=Node(id="kitchen"), mqtt=Mqtt.model_validate(known), route=(RouteSettings(),))


def found(loaded: Settings, root: Path) -> list[tuple[str, str]]:
    return [(one.verdict, one.message) for one in check_rules(loaded, loaded.routes(), root)]


def test_all_is_allowed(tmp_path: Path) -> None:
    root = machine(tmp_path, "listener 1883\nacl_file /etc/mosquitto/acl\n")
    assert found(settings(), root) == [
        ("ok", "/etc/mosquitto/acl: user kitchen may read edge/kitchen/request/+"),
        ("ok", "/etc/mosquitto/acl: user kitchen may read music/+/features"),
    ]


def test_a_channel_has_to_be_read(tmp_path: Path) -> None:
    loaded = settings().model_copy(update={"update": Update(channel="stable", require_signature=False)})
    listener = "listener 1883\nacl_file /etc/mosquitto/acl\n"
    missing = found(loaded, machine(tmp_path / "without", listener))[-1]
    assert missing == ("fail", "/etc/mosquitto/acl: user kitchen may read nothing of edge/fleet/stable/#")
    allowed = found(loaded, machine(tmp_path / "with", listener, f"{ACL}topic read edge/fleet/stable/#\n"))[-1]
    assert allowed == ("ok", "/etc/mosquitto/acl: user kitchen may read edge/fleet/stable/#")


def test_a_rule_is_missing(tmp_path: Path) -> None:
    root = machine(tmp_path, "acl_file /etc/mosquitto/acl\n", ACL.replace("topic read music/+/features\n", ""))
    (_, missing) = check_rules(settings(), settings().routes(), root)
    assert (missing.what, missing.verdict) == ("rules", "fail")
    assert missing.message == "/etc/mosquitto/acl: user kitchen may read nothing of music/+/features"
    assert "below the line user kitchen in /etc/mosquitto/acl: topic read music/+/features; then: sudo" in (
        missing.mend or ""
    )
    (own, other) = found(settings(username=None), root)
    assert (own[0], other[0]) == ("fail", "fail")
    assert "an anonymous client may read nothing" in other[1]


@pytest.mark.parametrize(
    ("configuration", "mqtt"),
    [
        ("acl_file /etc/mosquitto/acl\n", {"host": "broker.lan"}),
        ("acl_file /etc/mosquitto/acl\n", {"port": 1884}),
        ("listener 1884\nacl_file /etc/mosquitto/acl\n", {}),
        ("acl_file /etc/mosquitto/acl\nplugin /usr/lib/mosquitto_dynamic_security.so\n", {}),
        ("listener 1883\nacl_file /etc/mosquitto/acl\nuse_identity_as_username true\n", {}),
        ("allow_anonymous true\n", {}),
        ("per_listener_settings true\nlistener 1883\nlistener 1884\nacl_file /etc/mosquitto/acl\n", {}),
    ],
)
def test_what_is_not_known_is_nothing(tmp_path: Path, configuration: str, mqtt: dict[str, object]) -> None:
    assert found(settings(**mqtt), machine(tmp_path, configuration)) == []


def test_of_several_brokers_nothing_is_known(tmp_path: Path) -> None:
    assert found(settings(), machine(tmp_path, "acl_file /etc/mosquitto/acl\n", brokers=2)) == []
    assert found(settings(), tmp_path / "nowhere") == []


def test_each_listener_may_have_its_own(tmp_path: Path) -> None:
    configuration = (
        "per_listener_settings true\nlistener 1883\nacl_file /etc/mosquitto/nowhere\n"
        "listener 0 /run/mqtt.sock\nacl_file /etc/mosquitto/acl\n"
    )
    loaded = settings(transport="unix", socket="/run/mqtt.sock")
    assert [verdict for verdict, _ in found(loaded, machine(tmp_path, configuration))] == ["ok", "ok"]

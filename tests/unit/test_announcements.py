"""What a plan lists is said when it is new; the loop knows none of it."""

from __future__ import annotations

import pytest

from edge_agent.contract.messages import Answer, Info, Refused
from edge_agent.serving.agent import Agent
from edge_agent.serving.announcements import INFO, STATE, Announcement, News, announce
from edge_agent.testing import FakeClock, FakeLink, make_connection_settings, make_plan
from tests.unit.agents import topics_of

pytestmark = pytest.mark.usefixtures("logger")

DOCS = Announcement(News.PLAN, lambda node, _: [Answer(f"edge/{node}/docs", b"{}", qos=1, retain=True)])
WORD = {STATE: "edge/node/state", INFO: "edge/node/info", DOCS: "edge/node/docs"}
INFO_OF_NODE = Info(
    node="node",
    agent="0",
    python="3",
    onnxruntime="0",
    mqtt="5",
    started="",
    models=[],
    routes=[],
    state="degraded",
    reason="why",
)


@pytest.mark.parametrize(
    ("news", "said"),
    [
        (News.CONNECTION, [STATE, INFO, DOCS]),
        (News.STANDING, [STATE, INFO]),
        (News.PLAN, [INFO, DOCS]),
        (News.STANDING | News.PLAN, [STATE, INFO, DOCS]),
        (News(0), []),
    ],
)
def test_each_is_said_when_what_it_tells_is_new(news: News, said: list[Announcement]) -> None:
    assert topics_of(announce((STATE, INFO, DOCS), news, "node", INFO_OF_NODE)) == [WORD[one] for one in said]


def test_the_state_is_that_of_the_info() -> None:
    (state,) = announce((STATE,), News.CONNECTION, "node", INFO_OF_NODE)
    assert state.payload == b"degraded"


def test_one_more_in_the_plan_is_said_on_each_connection_and_after_a_reload() -> None:
    link, clock = FakeLink(), FakeClock()
    settings, plan = make_connection_settings(link), make_plan()._replace(announcements=(STATE, INFO, DOCS))
    agent = Agent(settings, plan, clock=clock)
    agent.step()
    assert topics_of(link.sent) == ["edge/node/state", "edge/node/info", "edge/node/docs"]
    del link.sent[:]
    agent.take_over(settings, plan)
    agent.step()
    assert topics_of(link.sent) == ["edge/node/info", "edge/node/docs"]
    del link.sent[:]
    link.refused.append(Refused("music/+/features", "Not authorized"))
    agent.take_over(settings, make_plan())
    agent.step()
    assert topics_of(link.sent) == ["edge/node/state", "edge/node/info"]

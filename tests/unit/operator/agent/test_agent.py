"""What instance metadata says goes onto the agent's own Node, once for each change."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from unittest import mock

import aiohttp
import pytest
from aiohttp import web
from tenantry_operator.agent import imds
from tenantry_operator.agent.imds import Metadata, MetadataError
from tenantry_operator.agent.main import Agent
from tenantry_operator.agent.notice import ACTION, LIFECYCLE, MAINTENANCE, REBALANCE, mark
from tenantry_operator.interruption.signals import Kind, Mark, Source
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client

from tests.unit.operator.agent.metadata_simulator import Simulator, simulated
from tests.unit.operator.apiserver import PATIENCE, Api, Asked, refusal, serving

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPOT = '{"action":"terminate","time":"2026-03-01T12:02:00Z"}'
PLANNED = [{"NotBefore": "21 Mar 2026 09:00:43 GMT", "Code": "system-reboot", "State": "active", "EventId": "e"}]


@dataclass
class World:
    """An agent, what it reads and where it writes."""

    agent: Agent
    metadata: Simulator
    api: Api
    refuse: bool = False

    def written(self) -> list[Mark | None]:
        """What was written on the Node, in order."""
        bodies = [json.loads(each.body) for each in self.api.asked]
        texts = [body["metadata"]["annotations"]["tenantry.dev/agent-notice"] for body in bodies]
        return [Mark.decode(text) if text is not None else None for text in texts]


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """An agent of node-1."""

    async def answer(asked: Asked) -> web.Response:
        assert (asked.method, asked.path) == ("PATCH", "/api/v1/nodes/node-1")
        return refusal(500, "InternalError") if made.refuse else web.json_response({})

    with mock.patch.object(imds, "TIMEOUT", aiohttp.ClientTimeout(total=PATIENCE)):
        async with (
            simulated() as metadata,
            serving(answer) as api,
            Client(api.access, manager="agent") as client,
            Metadata(metadata.address) as reader,
        ):
            made = World(Agent(client, reader, "node-1"), metadata, api)
            yield made


async def test_a_notice_is_written_once_and_taken_back_when_it_is_called_off() -> None:
    async with world() as w:
        await w.agent.look(seldom=True)
        w.metadata.answers[ACTION] = SPOT
        for _ in range(3):
            await w.agent.look(seldom=False)
        w.metadata.answers.clear()
        for _ in range(2):
            await w.agent.look(seldom=False)
        first, notice, last = w.written()
    assert (first, last) == (None, None), "what a former agent has left is cleared, too"
    assert notice is not None
    assert (notice.kind, notice.source) == (Kind.SPOT, Source.AGENT)
    assert notice.deadline == datetime(2026, 3, 1, 12, 2, tzinfo=UTC)


async def test_an_expired_token_is_renewed() -> None:
    async with world() as w:
        await w.agent.look(seldom=False)
        w.metadata.expire()
        w.metadata.answers[ACTION] = SPOT
        await w.agent.look(seldom=False)
        assert w.written()[-1] is not None


async def test_metadata_that_does_not_answer_call_nothing_off() -> None:
    async with world() as w:
        w.metadata.answers[ACTION] = SPOT
        await w.agent.look(seldom=False)
        w.metadata.down = True
        with pytest.raises(MetadataError):
            await w.agent.look(seldom=False)
        assert [each is not None for each in w.written()] == [True]


async def test_what_could_not_be_written_is_written_next_time() -> None:
    async with world() as w:
        w.metadata.answers[ACTION] = SPOT
        w.refuse = True
        with pytest.raises(errors.ServerError):
            await w.agent.look(seldom=False)
        w.refuse = False
        await w.agent.look(seldom=False)
        assert len(w.written()) == 2


@pytest.mark.parametrize(
    ("path", "text", "kind", "deadline"),
    [
        (ACTION, SPOT, Kind.SPOT, datetime(2026, 3, 1, 12, 2, tzinfo=UTC)),
        (ACTION, SPOT.replace("terminate", "hibernate"), Kind.SPOT, datetime(2026, 3, 1, 12, 2, tzinfo=UTC)),
        (REBALANCE, '{"noticeTime":"2026-03-01T11:59:00Z"}', Kind.REBALANCE, None),
        (MAINTENANCE, json.dumps(PLANNED), Kind.MAINTENANCE, datetime(2026, 3, 21, 9, 0, 43, tzinfo=UTC)),
        (LIFECYCLE, "Terminated", Kind.GROUP, None),
    ],
)
def test_every_path_is_understood(path: str, text: str, kind: Kind, deadline: datetime | None) -> None:
    found = mark({path: text}, NOW, None)
    assert found is not None
    assert (found.kind, found.deadline) == (kind, deadline)


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {MAINTENANCE: "[]"},
        {LIFECYCLE: "InService"},
        {MAINTENANCE: json.dumps([{**PLANNED[0], "State": "completed"}])},
    ],
)
def test_most_answers_say_nothing(answers: dict[str, str | None]) -> None:
    assert mark(answers, NOW, None) is None


def test_the_same_word_later_is_the_same_mark() -> None:
    first = mark({ACTION: SPOT}, NOW, None)
    assert mark({ACTION: SPOT}, NOW.replace(minute=1), first) is first

"""The interruption queue, read by our own client: requests as SQS wants them, each message at least once."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from tenantry_operator.aws.sqs import Queue, QueueError
from tenantry_operator.interruption.queue_reader import QueueReader
from tenantry_operator.interruption.signals import Kind, Signal

from tests.component.infra.sqs import ACCESS, left, stand_in


def notice(instance: str) -> str:
    """A Spot notice."""
    detail = {"instance-id": instance, "instance-action": "terminate"}
    return json.dumps({"detail-type": "EC2 Spot Instance Interruption Warning", "source": "aws.ec2", "detail": detail})


async def read(url: str, refuse_first: int = 0) -> list[Signal]:
    """What is reported until the queue is empty; the first so many reports do not come to an end."""
    heard: list[Signal] = []
    refused = 0

    async def report(signals: Sequence[Signal]) -> bool:
        nonlocal refused
        heard.extend(signals)
        refused += 1
        return refused > refuse_first

    async with Queue(url, ACCESS) as queue:
        reading = asyncio.create_task(QueueReader(queue, report).run())
        for _ in range(600):  # a minute; a message that was not deleted comes again after a second
            await asyncio.sleep(0.1)
            if await asyncio.to_thread(left, url) == 0:
                break
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return heard


async def test_messages_are_read_reported_and_then_deleted() -> None:
    bodies = [notice("i-1"), notice("i-2"), "poison", '{"detail-type": "EC2 Fleet Instance Change", "detail": {}}']
    with stand_in(json.dumps(bodies)) as url:
        heard = await read(url)
        assert await asyncio.to_thread(left, url) == 0
    assert sorted((each.kind, each.instance) for each in heard) == [(Kind.SPOT, "i-1"), (Kind.SPOT, "i-2")]


async def test_a_message_that_could_not_be_noted_comes_again() -> None:
    with stand_in(json.dumps([notice("i-1")])) as url:
        heard = await read(url, refuse_first=2)
    assert [each.instance for each in heard] == ["i-1"] * 3


async def test_a_wrong_key_is_told() -> None:
    with stand_in("[]") as url:
        async with Queue(url, {**ACCESS, "AWS_SECRET_ACCESS_KEY": "wrong"}) as queue:
            with pytest.raises(QueueError, match=r"403.*SignatureDoesNotMatch"):
                await queue.receive()

"""The interruption queue, read by our own client: requests as SQS wants them, each message at least once."""

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tenantry_operator.aws.sqs import Queue, QueueError
from tenantry_operator.interruption.queue_reader import QueueReader
from tenantry_operator.interruption.signals import Kind, Signal

STAND_IN = Path(__file__).with_name("sqs_stand_in.py")
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "session/token+with=signs",
    "AWS_REGION": "us-east-1",
}


def notice(instance: str) -> str:
    """A Spot notice."""
    detail = {"instance-id": instance, "instance-action": "terminate"}
    return json.dumps({"detail-type": "EC2 Spot Instance Interruption Warning", "source": "aws.ec2", "detail": detail})


@contextmanager
def queue_with(cloud_python: Path, environment: dict[str, str], *bodies: str) -> Iterator[str]:
    """The URL of a queue that holds these messages."""
    argv: list[str | Path] = [cloud_python, STAND_IN, json.dumps(bodies)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def left(url: str) -> int:
    """Messages that are still there."""
    with urllib.request.urlopen(url, timeout=10) as response:
        count = json.load(response)
    assert isinstance(count, int)
    return count


async def read(url: str, refuse_first: int = 0) -> list[Signal]:
    """What is reported until the queue is empty; the first so many reports do not come to an end."""
    heard: list[Signal] = []
    refused = 0

    async def report(signals: Sequence[Signal]) -> bool:
        nonlocal refused
        heard.extend(signals)
        refused += 1
        return refused > refuse_first

    async with Queue(url, ENVIRONMENT) as queue:
        reading = asyncio.create_task(QueueReader(queue, report).run())
        for _ in range(200):
            await asyncio.sleep(0.1)
            if await asyncio.to_thread(left, url) == 0:
                break
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return heard


async def test_messages_are_read_reported_and_then_deleted(cloud_python: Path, aws_environment: dict[str, str]) -> None:
    bodies = [notice("i-1"), notice("i-2"), "poison", '{"detail-type": "EC2 Fleet Instance Change", "detail": {}}']
    with queue_with(cloud_python, aws_environment, *bodies) as url:
        heard = await read(url)
        assert await asyncio.to_thread(left, url) == 0
    assert sorted((each.kind, each.instance) for each in heard) == [(Kind.SPOT, "i-1"), (Kind.SPOT, "i-2")]


async def test_a_message_that_could_not_be_noted_comes_again(
    cloud_python: Path, aws_environment: dict[str, str]
) -> None:
    with queue_with(cloud_python, aws_environment, notice("i-1")) as url:
        heard = await read(url, refuse_first=2)
    assert [each.instance for each in heard] == ["i-1"] * 3


async def test_a_wrong_key_is_told(cloud_python: Path, aws_environment: dict[str, str]) -> None:
    with queue_with(cloud_python, aws_environment) as url:
        async with Queue(url, {**ENVIRONMENT, "AWS_SECRET_ACCESS_KEY": "wrong"}) as queue:
            with pytest.raises(QueueError, match=r"403.*SignatureDoesNotMatch"):
                await queue.receive()

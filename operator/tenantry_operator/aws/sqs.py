"""One SQS queue, by SQS' JSON protocol: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from tenantry_operator.aws.credentials import CredentialsError, Source
from tenantry_operator.aws.signing import signed
from tenantry_operator.connected import Connected, plain

#: Seconds that SQS holds a request until there is a message: its longest, and the cheapest.
LONG_POLL = 20
TIMEOUT = aiohttp.ClientTimeout(total=LONG_POLL + 10, sock_connect=5)
#: Messages in one answer: SQS' limit.
BATCH = 10

_HOST = re.compile(r"^sqs\.([a-z0-9-]+)\.amazonaws\.com")


class QueueError(Exception):
    """The queue cannot be read for now; the message says why."""


class Message(Struct, frozen=True, rename="pascal"):
    """One message; ``receipt_handle`` is what it is deleted by."""

    body: str
    receipt_handle: str
    message_id: str = ""


class _Received(Struct, frozen=True, rename="pascal"):
    messages: list[Message] | None = None


def region_of(url: str, environment: Mapping[str, str]) -> str:
    """The region of a queue: in its URL, else in AWS_REGION. Raises ValueError."""
    found = _HOST.match(urlsplit(url).netloc)
    region = found[1] if found else environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", "")
    if not region:
        raise ValueError(f"{url} names no region: give the queue's URL as SQS spells it, or set AWS_REGION")
    return region


class Queue(Connected):
    """Use as an async context manager. Raises ValueError for a URL without region."""

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self.url, self._environment, self._region = url, environment, region_of(url, environment)
        self._source: Source | None = None

    def _open(self) -> aiohttp.ClientSession:
        session = plain(TIMEOUT)
        self._source = Source(session, self._environment, self._region)
        return session

    async def receive(self) -> list[Message]:
        """What has come, or nothing after ``LONG_POLL`` seconds. Raises QueueError.

        A message that is not deleted within the queue's visibility timeout comes again.
        """
        asked = {"QueueUrl": self.url, "MaxNumberOfMessages": BATCH, "WaitTimeSeconds": LONG_POLL}
        answer = await self._call("ReceiveMessage", asked)
        try:
            return msgspec.json.decode(answer, type=_Received).messages or []
        except msgspec.DecodeError as error:
            raise QueueError(f"{self.url}: an answer that is none of SQS': {error}") from error

    async def delete(self, message: Message) -> None:
        """It has been dealt with. Raises QueueError."""
        await self._call("DeleteMessage", {"QueueUrl": self.url, "ReceiptHandle": message.receipt_handle})

    async def _call(self, action: str, asked: Mapping[str, object]) -> bytes:
        assert self._source is not None, "use the queue as a context manager"
        parts = urlsplit(self.url)
        endpoint, body = f"{parts.scheme}://{parts.netloc}/", msgspec.json.encode(asked)
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}
        try:
            credentials = await self._source.get()
            whole = signed(
                endpoint, headers, body, credentials, region=self._region, service="sqs", now=datetime.now(UTC)
            )
            async with self._session.post(endpoint, data=body, headers=whole) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, CredentialsError) as error:
            raise QueueError(f"{action} {self.url}: {error or type(error).__name__}") from error
        if response.status != 200:
            if response.status in (400, 403):  # expired or not accepted; SQS says 400 for some of these
                self._source.refuse()
            raise QueueError(f"{action} {self.url}: {response.status} {answer[:300].decode(errors='replace')}")
        return answer

"""EC2 instance metadata, version 2: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"""

import aiohttp

from tenantry_operator.connected import Connected, plain

#: Where instances find it; an instance's hop limit is 1 on many nodes, so that only its own network gets there.
ADDRESS = "http://169.254.169.254"
#: Seconds that a session token is asked for.
TOKEN_TTL = 21600
TIMEOUT = aiohttp.ClientTimeout(total=2)


class MetadataError(Exception):
    """Instance metadata does not answer; the message says why."""


class Metadata(Connected):
    """Use as an async context manager."""

    def __init__(self, address: str = ADDRESS) -> None:
        self._address = address.rstrip("/")
        self._token = ""

    def _open(self) -> aiohttp.ClientSession:
        return plain(TIMEOUT)

    async def get(self, path: str) -> str | None:
        """What is at ``/latest/<path>``; None for nothing (404), which is the usual answer. Raises MetadataError."""
        status, text = await self._get(path)
        if status == 401:  # the token has expired, or the instance was stopped and started
            self._token = ""
            status, text = await self._get(path)
        if status == 404:
            return None
        if status != 200:
            raise MetadataError(f"{self._address}/latest/{path}: status {status}")
        return text

    async def _get(self, path: str) -> tuple[int, str]:
        try:
            if not self._token:
                ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL)}
                async with self._session.put(f"{self._address}/latest/api/token", headers=ttl) as response:
                    if response.status != 200:
                        raise MetadataError(
                            f"{self._address} gives no token (status {response.status}): see that the instance's"
                            " metadata service is on and that this pod uses the node's network"
                        )
                    self._token = await response.text()
            headers = {"X-aws-ec2-metadata-token": self._token}
            async with self._session.get(f"{self._address}/latest/{path}", headers=headers) as response:
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
            raise MetadataError(f"{self._address}/latest/{path}: {error or type(error).__name__}") from error

"""A real Chromium, driven by its own protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import asyncio
import base64
import itertools
import json
import os
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from localcluster.chromium import Browser
from websockets.asyncio.client import ClientConnection, connect

#: Seconds for one answer, and for the browser's start.
PATIENCE = 60.0


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        #: What the page logged as an error, or threw.
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command, and its answer; what happens meanwhile is noted if it is a complaint."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(PATIENCE):
            while True:
                told = json.loads(await self._socket.recv())
                if told.get("id") == number:
                    assert "error" not in told, told
                    return dict(told["result"])
                self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(told["params"]["exceptionDetails"]))
        if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            self.complaints.append(told["params"]["entry"]["text"])

    async def open(self, url: str, until: str) -> None:
        """Go there, and wait until this expression holds."""
        await self.call("Page.navigate", url=url)
        await self.wait(until)

    async def wait(self, until: str) -> None:
        """Wait until an expression holds."""
        async with asyncio.timeout(PATIENCE):
            while not await self.evaluate(until):  # noqa: ASYNC110 - the page is in another process
                await asyncio.sleep(0.02)

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def screenshot(self) -> bytes:
        """The whole page, as PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        taken = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={**size, "scale": 1})
        return base64.b64decode(taken["data"])


@asynccontextmanager
async def opened(browser: Browser, directory: Path, width: int = 1100, height: int = 760) -> AsyncIterator[Page]:
    """A browser with one empty tab; ended afterwards."""
    argv = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    argv += ["--remote-debugging-port=0", f"--user-data-dir={directory}", f"--window-size={width},{height}"]
    environment = {**os.environ, **browser.environment, "XDG_CACHE_HOME": str(directory / "cache")}
    process = await asyncio.create_subprocess_exec(
        browser.program,
        *argv,
        "about:blank",
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        port = await _port(process)
        tabs = await asyncio.to_thread(_tabs, port)
        (address,) = [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]
        async with connect(address, max_size=None, open_timeout=PATIENCE, ping_timeout=PATIENCE) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Log"):
                await page.call(f"{domain}.enable")
            yield page
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(PATIENCE):
        while line := (await process.stderr.readline()).decode():
            said += line
            found = re.search(r"DevTools listening on ws://[^:]+:(\d+)/", line)
            if found:
                return int(found[1])
    raise AssertionError(said)


def _tabs(port: int) -> list[dict[str, str]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
        return list(json.load(answer))

"""A real browser that is told what to do over its own protocol, and tells what it refused and asked for."""

import asyncio
import base64
import re
import shutil
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

CHROMIUM = shutil.which("chromium") or ""
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--remote-debugging-port=0",
)  # fmt: skip
_LIMIT_S = 30
#: Resolves when an element is there.
_THERE = """new Promise(done => {
  const look = () => document.querySelector(%r) ? done(true) : requestAnimationFrame(look);
  look();
})"""


class Seen(NamedTuple):
    """A page as a browser built it.

    Attributes:
        document: in HTML, as it has become.
        refused: what its policy did not allow, and other faults of security.
        asked: every address that was asked for.
    """

    document: str
    refused: tuple[str, ...]
    asked: tuple[str, ...]


class Browser:
    """One browser for many pages.

    Args:
        folder: for what it keeps.
    """

    def __init__(self, folder: Path) -> None:
        words = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = re.search(r"DevTools listening on (ws://\S+)", line)
            if found is not None:
                self._address = found.group(1)
                break
        else:
            raise AssertionError("the browser did not start")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process.wait(timeout=_LIMIT_S)

    def see(self, url: str, *, until: str = "body", picture: Path | None = None, width: int = 1280) -> Seen:
        """Open a page.

        Args:
            url: of it.
            until: what must be there, as a CSS selector; not for pages that run nothing in a sandbox.
            picture: where a picture of it goes.
            width: of the window.
        """
        return self._run(_see(self._address, url, until, picture, width))

    def _run(self, work: Coroutine[Any, Any, Seen]) -> Seen:
        async def limited() -> Seen:
            async with asyncio.timeout(_LIMIT_S):
                return await work

        return asyncio.run(limited())


class _Talk:
    """What is said to the browser and what it says."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    async def tell(self, method: str, **given: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": given}
        if self._session is not None:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    async def attach(self, target: str) -> None:
        attached = await self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    async def hear(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(await self._socket.receive_json())


async def _see(address: str, url: str, until: str, picture: Path | None, width: int) -> Seen:
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        talk = _Talk(socket)
        target = (await talk.tell("Target.createTarget", url="about:blank"))["targetId"]
        await talk.attach(target)
        for domain in ("Page", "Log", "Audits", "Network", "Runtime"):
            await talk.tell(f"{domain}.enable")
        await talk.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        talk.events.clear()
        gone = await talk.tell("Page.navigate", url=url)
        assert "errorText" not in gone, gone
        await talk.hear("Page.loadEventFired")
        if until != "body":
            await talk.tell("Runtime.evaluate", expression=_THERE % until, awaitPromise=True)
        root = (await talk.tell("DOM.getDocument"))["root"]["nodeId"]
        document = (await talk.tell("DOM.getOuterHTML", nodeId=root))["outerHTML"]
        if picture is not None:
            drawn = await talk.tell("Page.captureScreenshot", format="png")
            picture.write_bytes(base64.b64decode(drawn["data"]))
        await talk.tell("Target.closeTarget", targetId=target)
        return Seen(document, tuple(_refused(talk.events)), tuple(_asked(talk.events)))


def _refused(events: list[dict[str, Any]]) -> list[str]:
    found = []
    for event in events:
        given = event.get("params", {})
        if event.get("method") == "Log.entryAdded" and given["entry"]["source"] == "security":
            found.append(given["entry"]["text"])
        elif event.get("method") == "Audits.issueAdded" and "ContentSecurityPolicy" in given["issue"]["code"]:
            found.append(str(given["issue"]["details"]))
    return found


def _asked(events: list[dict[str, Any]]) -> list[str]:
    return [
        event["params"]["request"]["url"]
        for event in events
        if event.get("method") == "Network.requestWillBeSent"
    ]

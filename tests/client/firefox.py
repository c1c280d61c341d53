"""A real Firefox, driven by what it speaks itself: WebDriver BiDi (https://w3c.github.io/webdriver-bidi/)."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FIREFOX = ("firefox-esr", "firefox")
# Nothing is slow by itself; the machine may be.
ANSWER_S = 120
# Nothing of these leaves the machine.
_SETTINGS = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.newtabpage.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "",
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """One browser with one tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0
        self.send("session.new", capabilities={})
        self._tab = self.send("browsingContext.getTree")["contexts"][0]["context"]

    def send(self, method: str, **parameters: Any) -> Any:
        """Give a command and return its result; a refused one fails the test."""
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": parameters}))
        while True:
            # Whatever else it tells is not asked for.
            message = json.loads(self._socket.recv(timeout=ANSWER_S))
            if message.get("id") == self._last_id:
                assert message["type"] == "success", message
                return message["result"]

    def go(self, url: str) -> None:
        self.send("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file as a user does."""
        locator = {"type": "css", "value": selector}
        (node,) = self.send("browsingContext.locateNodes", context=self._tab, locator=locator)["nodes"]
        element = {"sharedId": node["sharedId"]}
        self.send("input.setFiles", context=self._tab, element=element, files=[str(path)])

    def call(self, function: str, *texts: str) -> Any:
        """Call an asynchronous function of texts in the page; return what it resolves with, by way of JSON."""
        answer = self.send(
            "script.callFunction",
            functionDeclaration=f"async (...texts) => JSON.stringify(await ({function})(...texts))",
            arguments=[{"type": "string", "value": text} for text in texts],
            awaitPromise=True,
            target={"context": self._tab},
        )
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])


def program() -> str | None:
    """Return where Firefox is."""
    return next(filter(None, map(shutil.which, FIREFOX)), None)


@contextmanager
def running(program: str, profile: Path) -> Iterator[Firefox]:
    """Run Firefox without a window, with a profile that is made for it."""
    profile.mkdir()
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _SETTINGS.items())
    (profile / "user.js").write_text("".join(lines))
    command = [program, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(profile)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                break
        else:
            raise AssertionError("".join(said))
        with connect(f"{found[1]}/session", max_size=None) as socket:
            yield Firefox(socket)
    finally:
        process.terminate()
        process.communicate()

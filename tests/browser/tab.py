"""A tab of the console, and what tests do in it."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

# Nothing here is slow by itself; the machine may be.
STEP_MS = 120_000
# Longer ones are felt (https://web.dev/articles/optimize-long-tasks).
LONGEST_TASK_MS = 50
# What Chromium writes by itself where a request is answered with an error, or not at all.
_FAILED_REQUEST = re.compile(r"Failed to load resource|net::ERR_")

expect.set_options(timeout=STEP_MS)


class Tab:
    """One tab, watched.

    Attributes:
        page: What Playwright knows of it.
        said: Errors and warnings in the browser's console.
        origins: Of all requests that it made.
    """

    def __init__(self, page: Page, env: Mapping[str, str], *, strict: bool) -> None:
        self.page = page
        self.url = env["TRAINSHED_URL"]
        self.storage = env["STORAGE_PUBLIC_URL"]
        self.said: list[str] = []
        self.origins: set[str] = set()
        self._strict = strict
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))
        page.on("request", self._see)

    def check(self) -> None:
        """Nothing was amiss in this tab."""
        assert self.said == [], self.said
        assert self.origins <= {self.url, self.storage}, self.origins

    def go(self, address: str = "") -> None:
        """Open a page of the console by what follows `#`."""
        self.page.goto(f"{self.url}/#/{address}")

    def go_to_session(self, session_id: str, tab: str = "") -> None:
        self.go(f"sessions/{quote(session_id, safe='')}" + (f"/{tab}" if tab else ""))

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name)

    def click(self, name: str | re.Pattern[str]) -> None:
        self.button(name).click()

    def heading(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("heading", name=name, exact=isinstance(name, str))

    def choose(self, *files: Path) -> None:
        """Choose files as the button does."""
        self.page.locator("[data-choose=files]").set_input_files([str(file) for file in files])

    def choose_folder(self, folder: Path) -> None:
        self.page.locator("[data-choose=folder]").set_input_files(str(folder))

    def file(self, name: str) -> Locator:
        """The line of a file that is on its way."""
        return self.page.locator("[data-file]").filter(has=self.page.get_by_text(name, exact=True))

    def files_in(self) -> Locator:
        """The lines of files that are in."""
        return self.page.get_by_role("region", name="Files", exact=True).locator("tbody tr")

    def see(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_text(text).first).to_be_visible()

    def cannot_scroll_sideways(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    def slow_uploads(self, *, megabytes_per_second: float) -> None:
        """Let the network be as slow as a real one, so that there is something to see."""
        limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
        network = self.page.context.new_cdp_session(self.page)
        network.send("Network.emulateNetworkConditions", limits | {"uploadThroughput": megabytes_per_second * 1e6})

    @contextmanager
    def tracing(self) -> Iterator[list[float]]:
        """Trace what is done meanwhile: the list gets the tasks of the page's main thread [ms].

        It is the thread's own time, so that a busy machine makes no task longer. Of a task in which files are chosen,
        it is the page's part: the list of them is made in the same task, by the browser alone (2,000 files: 55 ms).
        """
        browser = self.page.context.browser
        assert browser is not None
        tasks: list[float] = []
        browser.start_tracing(page=self.page, categories=["disabled-by-default-devtools.timeline", "devtools.timeline"])
        try:
            yield tasks
        finally:
            events = json.loads(browser.stop_tracing())["traceEvents"]
        named = [event for event in events if event["name"] == "thread_name"]
        threads = {(event["pid"], event["tid"]): event["args"]["name"] for event in named}
        # Those under way when the trace begins or ends have only one end, or no time of the thread.
        whole = [event for event in events if event["ph"] == "X" and "tdur" in event]
        ours = [event for event in whole if threads.get((event["pid"], event["tid"])) == "CrRendererMain"]
        chosen = [e for e in ours if e["name"] == "EventDispatch" and e["args"]["data"]["type"] == "change"]
        for task in (event for event in ours if event["name"] == "RunTask"):
            inside = [e for e in chosen if task["ts"] <= e["ts"] < task["ts"] + task["dur"] and e["pid"] == task["pid"]]
            tasks.append(sum(event["tdur"] for event in inside or [task]) / 1000)
        assert len(tasks) > 10, "nothing was traced"

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and (self._strict or not _FAILED_REQUEST.search(message.text)):
            self.said.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _see(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https", "ws", "wss"}:
            self.origins.add(f"{parts.scheme}://{parts.netloc}")

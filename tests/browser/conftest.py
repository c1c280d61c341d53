"""The console in a real Chromium, on the real stack."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from dev import chromium as browser_program
from dev.keys import User, user_by
from tests.browser.tab import STEP_MS, Tab
from trainshed.client import Client
from trainshed.upload import upload_file

LARGE_BYTES = 300 << 20


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = browser_program.find()
    if not program:
        pytest.fail(f"The browser tests need Chromium; {browser_program.HOW_TO_GET}", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=browser_program.ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_tab(chromium, local_stack, session_of_alice) -> Iterator[Callable[..., Tab]]:
    """Open tabs that are signed in; afterwards, each must have been quiet and have kept to its two origins.

    It asks for `session_of_alice` to be taken down before it: a tab that still shows a session when that is
    deleted says, rightly, that it is gone.
    """
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def open_tab(
        who: User | str | None = "alice",
        *,
        beside: Tab | None = None,
        dark: bool = False,
        width: int = 1280,
        script: str | None = None,
        strict: bool = True,
    ) -> Tab:
        """Open a tab.

        Args:
            who: A user, the name of a ready-made one, or None for nobody.
            beside: A tab whose browser, with all that it remembers, this one shares.
            script: Runs in every page before its own.
            strict: Also what the browser itself says of failed requests is an error.
        """
        if beside:
            context = beside.page.context
        else:
            context = chromium.new_context(
                viewport={"width": width, "height": 860},
                color_scheme="dark" if dark else "light",
                accept_downloads=True,
            )
            context.set_default_timeout(STEP_MS)
            contexts.append(context)
            user = user_by(name=who) if isinstance(who, str) else who
            if user:
                session = signed_in(local_stack, user)
                remembered = json.dumps(json.dumps(session))
                context.add_init_script(f"localStorage['trainshed-auth'] ??= {remembered}")
        if script:
            context.add_init_script(script)
        tab = Tab(context.new_page(), local_stack.env, strict=strict)
        tabs.append(tab)
        return tab

    yield open_tab
    for context in contexts:
        context.close()
    for tab in tabs:
        tab.check()


def signed_in(stack, user: User) -> dict[str, object]:
    """Return what Supabase's client remembers of a user who has signed in."""
    session_id = str(uuid.uuid4())
    return {
        "access_token": stack.keys.user_token(user, stack.issuer, session_id),
        "refresh_token": stack.keys.refresh_token(user, session_id),
        "token_type": "bearer",
        "expires_in": 3600,
        "expires_at": int(time.time()) + 3600,
        "user": {"id": user.id, "email": user.email, "aud": "authenticated", "role": "authenticated"},
    }


@pytest.fixture(scope="session")
def alice(local_stack) -> Iterator[Client]:
    """The service as a program of alice sees it."""
    user = user_by(name="alice")

    def token() -> str:
        return local_stack.keys.user_token(user, local_stack.issuer)

    with Client(local_stack.env["TRAINSHED_URL"], token) as client:
        yield client


@pytest.fixture
def session_of_alice(alice) -> Iterator[Callable[..., str]]:
    """Make sessions of alice, or take note of some, that are deleted after the test."""
    made: list[str] = []

    def make(session_id: str | None = None, **metadata: object) -> str:
        made.append(session_id or f"browser-{uuid.uuid4()}")
        alice.init_session(made[-1], metadata)
        return made[-1]

    yield make
    for session_id in made:
        alice.delete_session(session_id)


@pytest.fixture(scope="session")
def new_data_set(alice, tmp_path_factory) -> Iterator[Callable[[], str]]:
    """Make complete sessions with one table of 500 houses."""
    made: list[str] = []

    def make() -> str:
        path = tmp_path_factory.mktemp("houses") / "houses.csv"
        sides = ("south", "north", "north")
        rows = (f"{n % 50},{n % 7},{sides[n % 3]},{3 * (n % 50) + 10 * (n % 7) + n % 5}\n" for n in range(500))
        path.write_text("area,rooms,side,price\n" + "".join(rows))
        made.append(f"houses-{uuid.uuid4()}")
        alice.init_session(made[-1], {"title": "Houses"})
        upload_file(alice, made[-1], path, content_type="text/csv")
        alice.finalize_session(made[-1])
        return made[-1]

    yield make
    for session_id in made:
        alice.delete_session(session_id)


@pytest.fixture(scope="session")
def trained(alice, new_data_set) -> str:
    """A session with two models that are ready."""
    session_id = new_data_set()
    run = alice.train(session_id, target="price", models=["linear_regression", "random_forest"])
    while run["status"] in {"queued", "running"} or any(model["status"] == "pending" for model in run["models"]):
        time.sleep(0.5)
        run = alice.get_training(session_id)
    assert [model["status"] for model in run["models"]] == ["ready", "ready"]
    return session_id


@pytest.fixture(scope="session")
def large_file(tmp_path_factory) -> Path:
    """300 MiB of CSV in which every chunk differs."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    with path.open("wb") as file:
        file.write(b"n,x,y\n")
        n = 0
        while file.tell() < LARGE_BYTES:
            file.write(b"".join(b"%012d,%012d,%012d\n" % (n + i, (n + i) * 7919, (n + i) % 97) for i in range(20_000)))
            n += 20_000
        file.truncate(LARGE_BYTES)
    return path


@pytest.fixture
def small_file(tmp_path) -> Path:
    path = tmp_path / "line.csv"
    path.write_text("x,y,kind\n" + "".join(f"{x},{3 * x + x % 7},{'ab'[x % 2]}\n" for x in range(300)))
    return path

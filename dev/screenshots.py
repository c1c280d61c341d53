"""Renders the console's main screens into docs/images: `make screenshots`, beside a running stack.

Data and models are made for it as bob, so that the pages have something to show; both are deleted afterwards.
"""

import math
import os
import random
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from dev import chromium
from dev.home import REPOSITORY, home_from, read_env
from trainshed.auth import PasswordSignIn
from trainshed.client import Client
from trainshed.upload import upload_file

IMAGES = REPOSITORY / "docs/images"
WIDE = ViewportSize(width=1200, height=760)
PHONE = ViewportSize(width=360, height=760)
ROWS = 20_000
# What is made here is deleted in the end, so that no session of bob's own may have its id. Pictures show names alone.
_MARK = secrets.token_hex(8)
SESSION = f"boiler-house-{_MARK}"
OTHERS = {name: f"{name}-{_MARK}" for name in ("cold-store", "pump-station", "wind-farm")}
MODELS = ["linear_regression", "random_forest", "dense_network"]
STEP_MS = 120_000
RESIDUALS = "section[aria-label=Residuals]"
SOME_IN = re.compile(r"^[1-9]\d+(\.\d)? MB of 7")
FIRST_CHART = ".row-of-panels section:first-of-type figure:first-of-type"


def main() -> None:
    """Bring in data, train on it, and take pictures of what can be seen of it."""
    env_file = home_from(os.environ).env_file
    if not env_file.exists():
        sys.exit("The stack is not running: start it with `make start` in another terminal, then repeat this.")
    program = chromium.find()
    if not program:
        sys.exit(f"Pictures need Chromium; {chromium.HOW_TO_GET}")
    env = read_env(env_file)
    names = ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "BOB_EMAIL", "BOB_PASSWORD")
    sign_in = PasswordSignIn(*(env[name] for name in names))
    with Client(env["TRAINSHED_URL"], sign_in) as client, tempfile.TemporaryDirectory() as folder:
        try:
            make_sessions(client, Path(folder))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=chromium.ARGUMENTS)
                take_pictures(browser, env, Path(folder))
                browser.close()
        finally:
            for session_id in (SESSION, *OTHERS.values()):
                client.delete_session(session_id)


def make_sessions(client: Client, folder: Path) -> None:
    """Make one session with trained models, and some to stand beside it."""
    for name, session_id in OTHERS.items():
        client.init_session(session_id, {"title": name.replace("-", " ").capitalize()})
        upload_file(client, session_id, write_table(folder / f"{name}.csv", 2000), content_type="text/csv")
    client.finalize_session(OTHERS["cold-store"])
    client.init_session(SESSION, {"title": "Boiler house"})
    upload_file(client, SESSION, write_table(folder / "boiler.csv", ROWS), content_type="text/csv")
    client.finalize_session(SESSION)
    client.train(SESSION, target="power", models=MODELS)
    while client.get_training(SESSION)["status"] in {"queued", "running"}:
        time.sleep(1)


def write_table(path: Path, n_rows: int) -> Path:
    """Write hours of a boiler that heats a house: the power follows the weather and the time of day."""
    chance = random.Random(7)
    lines = ["outside,wind,sun,hour,setpoint,power\n"]
    for n in range(n_rows):
        hour = n % 24
        outside = 8 - 11 * math.cos(n / 8760 * 2 * math.pi) - 4 * math.cos(hour / 24 * 2 * math.pi) + chance.gauss(0, 2)
        wind, sun = abs(chance.gauss(3, 2)), max(0.0, math.sin((hour - 6) / 12 * math.pi)) * chance.uniform(80, 700)
        setpoint = 20.5 if 6 <= hour < 22 else 17.0
        power = max(0.0, (setpoint - outside) * (1.9 + 0.12 * wind) - sun / 90 + chance.gauss(0, 1.6))
        lines.append(f"{outside:.1f},{wind:.1f},{sun:.0f},{hour},{setpoint},{power:.2f}\n")
    path.write_text("".join(lines))
    return path


def take_pictures(browser: Browser, env: Mapping[str, str], folder: Path) -> None:
    """Take each picture in its theme and size."""
    light = signed_in(browser, env, WIDE, dark=False)
    save(light, "results", f"sessions/{SESSION}/results", "figure svg", RESIDUALS)
    save(light, "variables", f"sessions/{SESSION}/variables", "article svg", "article.variable")
    save(light, "models", f"sessions/{SESSION}/models", "[data-model]", "[data-model]")
    dark = signed_in(browser, env, WIDE, dark=True)
    save(dark, "results-dark", f"sessions/{SESSION}/results", "figure svg", RESIDUALS)
    phone = signed_in(browser, env, PHONE, dark=False)
    save(phone, "results-phone", f"sessions/{SESSION}/results", "figure svg", FIRST_CHART)
    upload(phone, folder)
    dark_phone = signed_in(browser, env, PHONE, dark=True)
    save(dark_phone, "results-phone-dark", f"sessions/{SESSION}/results", "figure svg", FIRST_CHART)


def signed_in(browser: Browser, env: Mapping[str, str], size: ViewportSize, *, dark: bool) -> Page:
    context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light", device_scale_factor=1.5)
    context.set_default_timeout(STEP_MS)
    page = context.new_page()
    page.goto(env["TRAINSHED_URL"])
    page.get_by_label("E-mail").fill(env["BOB_EMAIL"])
    page.get_by_label("Password").fill(env["BOB_PASSWORD"])
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="Sessions").wait_for()
    return page


def save(page: Page, name: str, address: str, awaited: str, last: str) -> None:
    page.goto(page.url.partition("#")[0] + f"#/{address}")
    page.locator(awaited).first.wait_for()
    page.wait_for_load_state("networkidle")
    end_below(page, last)
    write(page, name)


def end_below(page: Page, selector: str) -> None:
    """Let the window end where the last of the wanted things does, so that none is cut off."""
    box = page.locator(selector).last.bounding_box()
    assert box is not None
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({"width": size["width"], "height": round(box["y"] + box["height"]) + 24})


def upload(page: Page, folder: Path) -> None:
    """Show an upload half-way; it is given up afterwards."""
    large = folder / "boiler-2025.csv"
    table = (folder / "boiler.csv").read_bytes()
    large.write_bytes(table + table.partition(b"\n")[2] * 150)
    network = page.context.new_cdp_session(page)
    limits = {"offline": False, "latency": 20, "downloadThroughput": -1, "uploadThroughput": 6e6}
    network.send("Network.emulateNetworkConditions", limits)
    page.goto(page.url.partition("#")[0] + f"#/sessions/{OTHERS['pump-station']}")
    page.locator("[data-choose=files]").set_input_files([str(large)])
    page.get_by_text(SOME_IN).first.wait_for()
    write(page, "upload-phone")
    page.get_by_role("button", name="Cancel boiler-2025.csv").click()
    page.locator("[data-file]").first.wait_for(state="detached")


def write(page: Page, name: str) -> None:
    """Save what is seen as a picture that a reader of the README need not wait for."""
    path = IMAGES / f"console-{name}.jpg"
    page.screenshot(path=path, type="jpeg", quality=70)
    sys.stdout.write(f"{path.relative_to(REPOSITORY)}  {path.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main()

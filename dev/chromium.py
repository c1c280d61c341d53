"""The browser that tests, pictures and benchmarks drive: the machine's own."""

import shutil

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_GET = "on Debian: apt-get install chromium."
# Nothing of these leaves the machine: the sandbox needs rights that a container lacks, the rest phones home or guesses.
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find() -> str | None:
    """Return the path of the program; None if there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)

"""Runs the programs of the TypeScript packages for tests."""

import subprocess

from dev import npm


def run(program: str, *arguments: str) -> str:
    """Run npm or node in the repository and return what it prints; what it complains about fails the test."""
    command, environment = npm.command()
    done = subprocess.run(
        [*(command if program == "npm" else [program]), *arguments],
        cwd=npm.REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout

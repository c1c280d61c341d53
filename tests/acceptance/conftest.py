"""Black box: these tests know the running stack by its addresses and users alone (see $TRAINSHED_HOME/env)."""

import os
import uuid

import pytest

from trainshed.auth import PasswordSignIn
from trainshed.client import Client


def setting(name):
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set: run `make test`, or source the env file of a running stack.", pytrace=False)
    return value


@pytest.fixture(scope="session")
def service_url():
    return setting("TRAINSHED_URL")


def sign_in_as(user):
    names = ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", f"{user}_EMAIL", f"{user}_PASSWORD")
    return PasswordSignIn(*map(setting, names))


@pytest.fixture(scope="session")
def alice(service_url):
    with Client(service_url, sign_in_as("ALICE")) as client:
        yield client


@pytest.fixture(scope="session")
def bob(service_url):
    with Client(service_url, sign_in_as("BOB")) as client:
        yield client


@pytest.fixture
def new_session(alice):
    """Make sessions of alice that are deleted after the test."""
    made = []

    def make(prefix):
        made.append(alice.init_session(f"{prefix}-{uuid.uuid4()}")["session_id"])
        return made[-1]

    yield make
    for session_id in made:
        alice.delete_session(session_id)

"""The fake of the client's tests keeps to the protocol that the real stack keeps to."""

import pytest

from tests.fakes.upload_service import FakeUploadService, running
from tests.upload_protocol import UploadProtocol
from trainshed.client import Client


class TestFakeUploadService(UploadProtocol):
    @pytest.fixture
    def client(self):
        with running(FakeUploadService()) as service, Client(service.url) as client:
            yield client

    @pytest.fixture
    def session(self, client):
        return client.init_session("session-1")["session_id"]

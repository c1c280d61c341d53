import pytest

from tests.upload_protocol import UploadProtocol


class TestUploadProtocol(UploadProtocol):
    """What the fake of the client's tests is held to, held against the real stack."""

    @pytest.fixture
    def client(self, alice):
        return alice

    @pytest.fixture
    def session(self, new_session):
        return new_session("protocol")

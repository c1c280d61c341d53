import json

import pytest

from shared import errors
from shared.adapters.supabase import service_headers, translate
from shared.errors import (
    ChunksMissingError,
    DatabaseUnavailableError,
    InternalError,
    MethodNotAllowedError,
    ProcessingLimitError,
    ServiceError,
    SessionNotFoundError,
    UnauthenticatedError,
    WrongStateError,
)

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)]


def test_every_error_has_a_code_of_its_own():
    # InternalError is what a ServiceError is that nobody has named.
    codes = [kind.code for kind in KINDS if kind is not ServiceError]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_explains_itself_in_one_sentence(kind):
    sentence = (kind.__doc__ or "").split("\n")[0]

    assert sentence.endswith(".")
    assert 10 < len(sentence) < 120


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_retryable_if_and_only_if_time_alone_can_help(kind):
    assert 400 <= kind.status < 600
    assert not kind.retryable or kind.status in {409, 503}
    assert kind.retryable or kind.status != 503


def test_an_error_without_a_text_says_what_its_kind_says():
    assert ChunksMissingError(missing=[1]).message == "Not all chunks are in the bucket."
    assert ChunksMissingError("Two are missing.").message == "Two are missing."


def test_allowed_methods_are_named():
    error = MethodNotAllowedError(["GET", "DELETE"])

    assert (error.message, error.details) == ("Use GET or DELETE.", {"allowed": ["GET", "DELETE"]})


class TestTranslate:
    def test_an_error_of_a_function_becomes_ours_with_its_details(self):
        error = translate("PT409", "wrong_state", '{"message": "The upload is failed.", "state": "failed"}')

        assert isinstance(error, WrongStateError)
        assert (error.message, error.details) == ("The upload is failed.", {"state": "failed"})

    def test_a_time_to_wait_is_no_detail(self):
        error = translate("PT429", "processing_limit_reached", '{"retry_after_s": 60, "limit": 20}')

        assert isinstance(error, ProcessingLimitError)
        assert (error.retry_after_s, error.details) == (60, {"limit": 20})

    @pytest.mark.parametrize("details", [None, "", "{}"])
    def test_an_error_of_a_function_needs_no_details(self, details):
        error = translate("PT404", "session_not_found", details)

        assert isinstance(error, SessionNotFoundError)
        assert error.message == "There is no such session."

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.__init__ is ServiceError.__init__])
    def test_every_code_finds_its_error(self, kind):
        expected = InternalError if kind is ServiceError else kind

        assert type(translate(f"PT{kind.status}", kind.code, json.dumps({"a": 1}))) is expected

    @pytest.mark.parametrize("code", ["PGRST301", "PGRST302", "PGRST303"])
    def test_a_token_that_the_database_refuses_is_not_valid(self, code):
        assert isinstance(translate(code, "JWT expired", None), UnauthenticatedError)

    @pytest.mark.parametrize(
        "code",
        [
            "08006",
            "40001",
            "40P01",
            "53300",
            "57014",
            "57P01",
            "55P03",
            "PGRST000",
            "PGRST001",
            "PGRST002",
            "PGRST003",
            "502",
            "503",
            "504",
        ],
    )
    def test_a_database_that_cannot_answer_now_is_unavailable(self, code):
        error = translate(code, "", None)

        assert isinstance(error, DatabaseUnavailableError)
        assert error.retryable

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("42501", "permission denied"),
            ("PGRST202", "no function"),
            ("23514", "check"),
            (None, None),
            ("PT409", "??"),
            ("404", ""),
        ],
    )
    def test_anything_else_is_a_defect_of_ours(self, code, message):
        assert type(translate(code, message, None)) is InternalError


def test_a_new_key_travels_alone_and_a_legacy_key_as_a_token_too():
    assert service_headers("sb_secret_1") == {"apikey": "sb_secret_1"}
    assert service_headers("eyJ") == {"apikey": "eyJ", "Authorization": "Bearer eyJ"}

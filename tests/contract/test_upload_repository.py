"""What every `UploadRepository` does, in memory and on Supabase."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import (
    FileExistsInSessionError,
    LeaseLostError,
    ProcessingLimitError,
    ServiceError,
    SessionFinalizedError,
    SessionNotFoundError,
    StorageLimitError,
    SubscriptionRequiredError,
    TooLargeError,
    UploadNotFoundError,
    WrongStateError,
)
from shared.records.callers import Caller
from shared.records.claims import ClaimOutcome
from shared.records.uploads import AssembledObject, Upload, UploadState
from tests.contract.conftest import Backend
from tests.factories import a_new_upload, a_uuid

LEASE_S = 60
YEARS = 24 * 365
FAILURE = {"code": "data_set_invalid", "detail": "größe", "line": 3}


def user(backend: Backend, **plan: Any) -> Caller:
    """Add a user with a session."""
    caller = backend.user(**plan)
    backend.sessions.init(caller.user_id, "weather", {})
    return caller


def opened(backend: Backend, caller: Caller, **fields: Any) -> Upload:
    upload, is_new = backend.uploads.create(caller.user_id, a_new_upload(**fields))
    assert is_new
    return upload


def claimed(backend: Backend, caller: Caller, lease_s: int = LEASE_S, **fields: Any) -> tuple[Upload, str]:
    upload, token = opened(backend, caller, **fields), a_uuid()
    assert backend.uploads.claim(caller.user_id, upload.id, token, lease_s).outcome is ClaimOutcome.CLAIMED
    return upload, token


def result(upload: Upload, **fields: Any) -> AssembledObject:
    defaults = {
        "object_name": f"datasets/{upload.session_uuid}/{upload.id}/{upload.file_name}",
        "generation": 1_795_000_000_000_000,
        "size_bytes": 10,
        "crc32c": "AAAAAA==",
        "sha256": None,
        "n_rows": None,
    }
    return AssembledObject(**defaults | fields)


def in_state(backend: Backend, caller: Caller, state: str, **fields: Any) -> Upload:
    """Return an upload in that state."""
    match state:
        case "open":
            return opened(backend, caller, **fields)
        case "assembling":
            upload, _ = claimed(backend, caller, **fields)
        case "assembled":
            upload, token = claimed(backend, caller, **fields)
            backend.uploads.record(caller.user_id, upload.id, token, result(upload))
        case "failed":
            upload, token = claimed(backend, caller, **fields)
            backend.uploads.fail(caller.user_id, upload.id, token, FAILURE)
        case "aborted":
            upload = opened(backend, caller, **fields)
            backend.uploads.abort(caller.user_id, upload.id)
        case "expiring" | "expired":
            upload = opened(backend, caller, **fields)
            backend.make_older(upload.id, hours=30 * YEARS)
            backend.uploads.begin_sweep(max_age_hours=20 * YEARS, limit=10, dry_run=False)
            if state == "expired":
                backend.uploads.finish_sweep(upload.id)
    found = backend.uploads.get(caller, upload.id)
    assert found.state == state
    return found


ALL_STATES = [state.value for state in UploadState]


class TestCreate:
    def test_a_new_upload_is_open_and_counted(self, backend):
        alice = user(backend)
        sha256 = "ab" * 32

        upload = opened(backend, alice, file_name="größe 'x'.csv", content_type="text/csv", sha256=sha256)

        assert (upload.state, upload.owner, upload.session_id) == (UploadState.OPEN, alice.user_id, "weather")
        assert (upload.file_name, upload.content_type, upload.sha256) == ("größe 'x'.csv", "text/csv", sha256)
        assert (upload.size_bytes, upload.chunk_size_bytes, upload.total_chunks) == (10, 4, 3)
        assert upload.expires_at - upload.created_at == timedelta(hours=24)
        assert (upload.object_name, upload.generation, upload.n_rows, upload.failure) == (None, None, None, None)
        assert backend.uploads.get(alice, upload.id) == upload
        assert backend.sessions.get(alice, "weather").status == "uploading"
        assert backend.usage(alice) == (1, 10)

    def test_an_empty_file_is_a_file(self, backend):
        alice = user(backend)

        upload = opened(backend, alice, size_bytes=0)

        assert (upload.size_bytes, upload.total_chunks) == (0, 0)
        assert backend.usage(alice) == (1, 0)

    def test_the_equal_open_upload_is_returned_and_nothing_counted(self, backend):
        alice = user(backend)
        first = opened(backend, alice)

        second, is_new = backend.uploads.create(alice.user_id, a_new_upload(chunk_size_bytes=5, total_chunks=2))

        assert (second, is_new) == (first, False)
        assert backend.usage(alice) == (1, 10)

    @pytest.mark.parametrize("state", ["open", "assembling", "assembled"])
    @pytest.mark.parametrize("other", [{"size_bytes": 11}, {"sha256": "ab" * 32}, {"is_legacy": True}])
    def test_a_live_upload_keeps_others_from_its_name(self, backend, state, other):
        alice = user(backend)
        upload = in_state(backend, alice, state)

        with pytest.raises(FileExistsInSessionError) as caught:
            backend.uploads.create(alice.user_id, a_new_upload(**other))

        assert caught.value.details == {"uploadId": upload.id, "state": state, "size": 10}
        assert backend.usage(alice) == (1, 10)

    @pytest.mark.parametrize("state", ["assembling", "assembled"])
    def test_an_equal_upload_that_is_past_open_keeps_its_name_too(self, backend, state):
        alice = user(backend)
        in_state(backend, alice, state)

        with pytest.raises(FileExistsInSessionError):
            backend.uploads.create(alice.user_id, a_new_upload())

    @pytest.mark.parametrize("state", ["failed", "aborted", "expiring", "expired"])
    def test_an_upload_that_came_to_nothing_makes_room(self, backend, state):
        alice = user(backend)
        old = in_state(backend, alice, state)

        assert opened(backend, alice).id != old.id

    @pytest.mark.parametrize("state", ["open", "assembling", "assembled"])
    def test_a_legacy_upload_is_returned_for_each_of_its_chunks(self, backend, state):
        alice = user(backend)
        legacy = {"is_legacy": True, "size_bytes": None, "reserved_bytes": 30, "total_chunks": 3}
        upload = in_state(backend, alice, state, **legacy)

        again, is_new = backend.uploads.create(alice.user_id, a_new_upload(**legacy | {"reserved_bytes": 99}))

        assert (again.id, again.state, is_new) == (upload.id, state, False)
        with pytest.raises(FileExistsInSessionError):
            backend.uploads.create(alice.user_id, a_new_upload(**legacy | {"total_chunks": 4}))

    def test_the_same_name_in_another_session_is_another_upload(self, backend):
        alice = user(backend)
        backend.sessions.init(alice.user_id, "other", {})

        assert opened(backend, alice).id != opened(backend, alice, session_id="other").id

    def test_an_unknown_session_or_somebody_elses_is_not_found(self, backend):
        alice, bob = user(backend), backend.user()

        for caller, name in ((bob, "weather"), (alice, "unknown")):
            with pytest.raises(SessionNotFoundError):
                backend.uploads.create(caller.user_id, a_new_upload(session_id=name))
        assert backend.usage(bob) == (0, 0)

    def test_a_finalized_session_takes_no_more(self, backend):
        alice = user(backend)
        backend.sessions.finalize(alice.user_id, "weather")

        with pytest.raises(SessionFinalizedError) as caught:
            backend.uploads.create(alice.user_id, a_new_upload())

        assert caught.value.details == {"status": "finalized"}
        assert backend.usage(alice) == (0, 0)


class TestLimits:
    @pytest.mark.parametrize("plan", [{"is_subscribed": False}, {"status": "canceled"}])
    def test_without_an_active_subscription_nothing_is_taken(self, backend, plan):
        alice = user(backend, **plan)

        with pytest.raises(SubscriptionRequiredError):
            backend.uploads.create(alice.user_id, a_new_upload())
        session, uploads = backend.uploads.of_session(alice, "weather")
        assert (session.status, uploads) == ("initialized", [])

    def test_a_subscription_counts_within_its_period_only(self, backend):
        past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)
        for start, end in ((past, past + timedelta(days=30)), (future, future + timedelta(days=30))):
            alice = user(backend, period_start=start, period_end=end)

            with pytest.raises(SubscriptionRequiredError):
                backend.uploads.create(alice.user_id, a_new_upload())

    def test_the_last_unit_of_processing_is_the_last(self, backend):
        period_end = datetime(2090, 1, 1, tzinfo=UTC)
        alice = user(backend, processing_limit=2, period_end=period_end)
        opened(backend, alice, file_name="a")
        opened(backend, alice, file_name="b")

        with pytest.raises(ProcessingLimitError) as caught:
            backend.uploads.create(alice.user_id, a_new_upload(file_name="c"))

        details = dict(caught.value.details)
        assert datetime.fromisoformat(details.pop("resetsAt")) == period_end
        assert details == {"limit": 2, "used": 2}
        assert caught.value.retry_after_s > 3600
        assert backend.usage(alice) == (2, 20)

    def test_a_new_period_begins_at_zero_and_keeps_the_bytes(self, backend):
        alice = user(backend, processing_limit=1)
        opened(backend, alice, file_name="a")
        backend.renew(alice)

        opened(backend, alice, file_name="b")

        assert backend.usage(alice) == (1, 20)

    def test_what_was_counted_in_an_old_period_does_not_come_back_in_a_new_one(self, backend):
        alice = user(backend, processing_limit=1)
        old = opened(backend, alice, file_name="old")
        backend.renew(alice)
        opened(backend, alice, file_name="new")

        backend.uploads.abort(alice.user_id, old.id)

        assert backend.usage(alice) == (1, 10)

    def test_the_stored_bytes_may_reach_the_limit_and_not_pass_it(self, backend):
        alice = user(backend, bytes_stored_limit=30)
        for name in "abc":
            opened(backend, alice, file_name=name)

        with pytest.raises(StorageLimitError) as caught:
            backend.uploads.create(alice.user_id, a_new_upload(file_name="d", size_bytes=1))

        assert caught.value.details == {"limit": 30, "used": 30}
        assert backend.usage(alice) == (3, 30)

    def test_a_file_may_be_as_large_as_the_plan_takes(self, backend):
        alice = user(backend, bytes_per_upload_limit=10)
        opened(backend, alice)

        with pytest.raises(TooLargeError) as caught:
            backend.uploads.create(alice.user_id, a_new_upload(file_name="b", size_bytes=11))
        assert caught.value.details == {"limit": 10}

    @staticmethod
    def attempts(backend: Backend, caller: Caller, refusal: type[ServiceError]) -> int:
        """Open eight uploads at once, each in a session of its own; return how many are."""
        for number in range(8):
            backend.sessions.init(caller.user_id, f"session-{number}", {})

        def attempt(number: int) -> bool:
            try:
                opened(backend, caller, session_id=f"session-{number}")
            except refusal:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            return sum(pool.map(attempt, range(8)))

    def test_of_eight_at_once_one_gets_the_last_unit(self, backend):
        alice = user(backend, processing_limit=3)
        opened(backend, alice, file_name="a")
        opened(backend, alice, file_name="b")

        assert self.attempts(backend, alice, ProcessingLimitError) == 1
        assert backend.usage(alice) == (3, 30)

    def test_of_eight_at_once_one_gets_the_last_bytes(self, backend):
        alice = user(backend, bytes_stored_limit=25)
        opened(backend, alice, file_name="a")

        assert self.attempts(backend, alice, StorageLimitError) == 1
        assert backend.usage(alice) == (2, 20)

    def test_eight_equal_requests_at_once_open_one_upload(self, backend):
        alice = user(backend)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: backend.uploads.create(alice.user_id, a_new_upload()), range(8)))

        assert len({upload.id for upload, _ in answers}) == 1
        assert sum(is_new for _, is_new in answers) == 1
        assert backend.usage(alice) == (1, 10)


class TestGet:
    def test_an_unknown_upload_or_somebody_elses_is_not_found(self, backend):
        alice, bob = user(backend), user(backend)
        upload = opened(backend, alice)

        for caller, upload_id in ((bob, upload.id), (alice, a_uuid())):
            with pytest.raises(UploadNotFoundError):
                backend.uploads.get(caller, upload_id)

    def test_a_session_comes_with_its_uploads_oldest_first(self, backend):
        alice = user(backend)
        made = [opened(backend, alice, file_name=name) for name in ("b", "a", "c")]

        session, uploads = backend.uploads.of_session(alice, "weather")

        assert session == backend.sessions.get(alice, "weather")
        assert uploads == made

    def test_a_session_that_is_unknown_or_somebody_elses_is_not_found(self, backend):
        alice, bob = user(backend), backend.user()
        opened(backend, alice)

        for caller, name in ((bob, "weather"), (alice, "unknown")):
            with pytest.raises(SessionNotFoundError):
                backend.uploads.of_session(caller, name)


class TestFindAssembled:
    def test_the_owners_newest_file_of_that_content_is_found(self, backend):
        alice, sha256 = user(backend), "cd" * 32
        first, second = (
            in_state(backend, alice, "assembled", file_name=name, sha256=sha256) for name in ("one.bin", "two.bin")
        )

        found = backend.uploads.find_assembled(alice.user_id, sha256, 10)

        assert found == second != first

    def test_what_differs_in_owner_content_size_or_state_is_not_found(self, backend):
        alice, bob, sha256 = user(backend), user(backend), "ef" * 32
        in_state(backend, alice, "assembled", sha256=sha256)
        in_state(backend, alice, "open", file_name="open.bin", sha256="01" * 32)

        assert backend.uploads.find_assembled(bob.user_id, sha256, 10) is None
        assert backend.uploads.find_assembled(alice.user_id, "ab" * 32, 10) is None
        assert backend.uploads.find_assembled(alice.user_id, sha256, 11) is None
        assert backend.uploads.find_assembled(alice.user_id, "01" * 32, 10) is None

    def test_a_file_of_a_session_that_is_being_deleted_is_not_found(self, backend):
        alice, sha256 = user(backend), "23" * 32
        in_state(backend, alice, "assembled", sha256=sha256)
        backend.sessions.begin_delete(alice.user_id, "weather")

        assert backend.uploads.find_assembled(alice.user_id, sha256, 10) is None


class TestExtend:
    def test_an_open_upload_lives_24_hours_more(self, backend):
        alice = user(backend)
        upload = opened(backend, alice)

        extended = backend.uploads.extend(alice.user_id, upload.id)

        assert extended.expires_at > upload.expires_at
        assert extended.state is UploadState.OPEN
        assert extended.expires_at - extended.updated_at == timedelta(hours=24)

    @pytest.mark.parametrize("state", sorted(set(ALL_STATES) - {"open"}))
    def test_no_other_upload_is_extended(self, backend, state):
        alice = user(backend)
        upload = in_state(backend, alice, state)

        with pytest.raises(WrongStateError) as caught:
            backend.uploads.extend(alice.user_id, upload.id)

        assert caught.value.details == {"state": state}
        assert state in caught.value.message
        assert backend.uploads.get(alice, upload.id) == upload

    def test_an_unknown_upload_or_somebody_elses_is_not_found(self, backend):
        alice, bob = user(backend), user(backend)
        upload = opened(backend, alice)

        for caller, upload_id in ((bob, upload.id), (alice, a_uuid())):
            with pytest.raises(UploadNotFoundError):
                backend.uploads.extend(caller.user_id, upload_id)


class TestClaim:
    def test_an_open_upload_is_taken(self, backend):
        alice = user(backend)
        upload = opened(backend, alice)

        claim = backend.uploads.claim(alice.user_id, upload.id, a_uuid(), LEASE_S)

        assert (claim.outcome, claim.upload.state) == (ClaimOutcome.CLAIMED, UploadState.ASSEMBLING)

    def test_while_somebody_holds_it_others_find_it_busy(self, backend):
        alice = user(backend)
        upload, _ = claimed(backend, alice)

        claim = backend.uploads.claim(alice.user_id, upload.id, a_uuid(), LEASE_S)

        assert (claim.outcome, claim.upload.state) == (ClaimOutcome.BUSY, UploadState.ASSEMBLING)

    def test_its_holder_may_claim_it_again(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)

        assert backend.uploads.claim(alice.user_id, upload.id, token, LEASE_S).outcome is ClaimOutcome.CLAIMED

    def test_once_the_lease_has_run_out_it_is_taken_over(self, backend):
        alice = user(backend)
        upload, old_token = claimed(backend, alice, lease_s=0)
        new_token = a_uuid()

        assert backend.uploads.claim(alice.user_id, upload.id, new_token, LEASE_S).outcome is ClaimOutcome.CLAIMED

        with pytest.raises(LeaseLostError):
            backend.uploads.record(alice.user_id, upload.id, old_token, result(upload))
        with pytest.raises(LeaseLostError):
            backend.uploads.fail(alice.user_id, upload.id, old_token, FAILURE)
        backend.uploads.release(alice.user_id, upload.id, old_token)
        assert backend.uploads.get(alice, upload.id).state is UploadState.ASSEMBLING
        assert backend.uploads.record(alice.user_id, upload.id, new_token, result(upload)).state == "assembled"

    def test_an_assembled_upload_is_done(self, backend):
        alice = user(backend)
        upload = in_state(backend, alice, "assembled")

        claim = backend.uploads.claim(alice.user_id, upload.id, a_uuid(), LEASE_S)

        assert (claim.outcome, claim.upload) == (ClaimOutcome.DONE, upload)

    @pytest.mark.parametrize("state", ["failed", "aborted", "expiring", "expired"])
    def test_an_upload_that_came_to_nothing_cannot_be_claimed(self, backend, state):
        alice = user(backend)
        upload = in_state(backend, alice, state)

        with pytest.raises(WrongStateError) as caught:
            backend.uploads.claim(alice.user_id, upload.id, a_uuid(), LEASE_S)

        assert caught.value.details == {"state": state, "failure": FAILURE if state == "failed" else None}
        assert backend.uploads.get(alice, upload.id) == upload

    def test_an_unknown_upload_or_somebody_elses_is_not_found(self, backend):
        alice, bob = user(backend), user(backend)
        upload = opened(backend, alice)

        for caller, upload_id in ((bob, upload.id), (alice, a_uuid())):
            with pytest.raises(UploadNotFoundError):
                backend.uploads.claim(caller.user_id, upload_id, a_uuid(), LEASE_S)

    @pytest.mark.parametrize("lease_s", [LEASE_S, 0])
    def test_of_eight_at_once_one_gets_it(self, backend, lease_s):
        """Also of eight who take it over."""
        alice = user(backend)
        upload = opened(backend, alice) if lease_s else claimed(backend, alice, lease_s=0)[0]

        def claim(_: int) -> ClaimOutcome:
            return backend.uploads.claim(alice.user_id, upload.id, a_uuid(), LEASE_S).outcome

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(claim, range(8)))

        assert sorted(outcomes) == [ClaimOutcome.BUSY] * 7 + [ClaimOutcome.CLAIMED]


class TestReportVerified:
    def test_it_is_seen_until_another_call_begins_to_read_anew(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice, lease_s=0)
        assert backend.uploads.get(alice, upload.id).verified_bytes is None

        backend.uploads.report_verified(alice.user_id, upload.id, token, 4)
        backend.uploads.report_verified(alice.user_id, upload.id, token, 1 << 42)
        assert backend.uploads.get(alice, upload.id).verified_bytes == 1 << 42

        assert backend.uploads.claim(alice.user_id, upload.id, a_uuid(), LEASE_S).upload.verified_bytes is None

    def test_without_the_lease_nothing_is_reported(self, backend):
        alice, bob = user(backend), user(backend)
        upload, token = claimed(backend, alice)
        is_open = opened(backend, alice, file_name="other.csv")

        for owner, upload_id, lease_token in (
            (alice, upload.id, a_uuid()),
            (bob, upload.id, token),
            (alice, a_uuid(), token),
            (alice, is_open.id, token),
        ):
            with pytest.raises(LeaseLostError):
                backend.uploads.report_verified(owner.user_id, upload_id, lease_token, 4)
        assert backend.uploads.get(alice, upload.id).verified_bytes is None


class TestRelease:
    def test_a_released_upload_is_open_and_keeps_its_quota(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)

        backend.uploads.release(alice.user_id, upload.id, token)

        assert backend.uploads.get(alice, upload.id).state is UploadState.OPEN
        assert backend.usage(alice) == (1, 10)
        assert backend.uploads.claim(alice.user_id, upload.id, a_uuid(), LEASE_S).outcome is ClaimOutcome.CLAIMED

    def test_who_does_not_hold_it_releases_nothing(self, backend):
        alice, bob = user(backend), user(backend)
        upload, token = claimed(backend, alice)

        backend.uploads.release(alice.user_id, upload.id, a_uuid())
        backend.uploads.release(bob.user_id, upload.id, token)
        backend.uploads.release(alice.user_id, a_uuid(), token)

        assert backend.uploads.get(alice, upload.id).state is UploadState.ASSEMBLING

    def test_an_upload_that_is_assembled_stays_so(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)
        backend.uploads.record(alice.user_id, upload.id, token, result(upload))

        backend.uploads.release(alice.user_id, upload.id, token)

        assert backend.uploads.get(alice, upload.id).state is UploadState.ASSEMBLED


class TestRecord:
    def test_an_assembled_upload_tells_what_was_made_of_it(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)
        made = result(upload, size_bytes=10, sha256="cd" * 32, n_rows=3, generation=(1 << 53) + 1)

        recorded = backend.uploads.record(alice.user_id, upload.id, token, made)

        assert recorded.state is UploadState.ASSEMBLED
        assert (recorded.object_name, recorded.generation) == (made.object_name, (1 << 53) + 1)
        assert (recorded.crc32c, recorded.sha256, recorded.n_rows) == ("AAAAAA==", "cd" * 32, 3)
        assert backend.uploads.get(alice, upload.id) == recorded

    def test_recording_twice_returns_the_same_upload(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)
        first = backend.uploads.record(alice.user_id, upload.id, token, result(upload))

        assert backend.uploads.record(alice.user_id, upload.id, token, result(upload)) == first
        # Whoever verified the very same object has done the same work.
        assert backend.uploads.record(alice.user_id, upload.id, a_uuid(), result(upload)) == first

    def test_another_object_does_not_replace_the_first(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)
        first = backend.uploads.record(alice.user_id, upload.id, token, result(upload))

        with pytest.raises(LeaseLostError):
            backend.uploads.record(alice.user_id, upload.id, token, result(upload, generation=2))
        assert backend.uploads.get(alice, upload.id) == first

    def test_without_the_lease_nothing_is_recorded(self, backend):
        alice = user(backend)
        upload, _ = claimed(backend, alice)

        with pytest.raises(LeaseLostError):
            backend.uploads.record(alice.user_id, upload.id, a_uuid(), result(upload))
        assert backend.uploads.get(alice, upload.id).state is UploadState.ASSEMBLING

    @pytest.mark.parametrize("state", ["open", "failed", "aborted", "expiring", "expired"])
    def test_an_upload_that_nobody_holds_is_not_recorded(self, backend, state):
        alice = user(backend)
        upload = in_state(backend, alice, state)

        with pytest.raises(LeaseLostError):
            backend.uploads.record(alice.user_id, upload.id, a_uuid(), result(upload))
        assert backend.uploads.get(alice, upload.id) == upload

    def test_a_declared_sha256_stays_where_none_was_computed(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice, sha256="ab" * 32)

        assert backend.uploads.record(alice.user_id, upload.id, token, result(upload)).sha256 == "ab" * 32

    @pytest.mark.parametrize(("reserved", "size"), [(30, 12), (4, 50)])
    def test_from_now_on_the_real_size_of_a_legacy_file_counts(self, backend, reserved, size):
        alice = user(backend)
        fields = {"is_legacy": True, "size_bytes": None, "reserved_bytes": reserved, "total_chunks": 3}
        upload, token = claimed(backend, alice, **fields)

        backend.uploads.record(alice.user_id, upload.id, token, result(upload, size_bytes=size))

        assert backend.usage(alice) == (1, size)
        backend.sessions.begin_delete(alice.user_id, "weather")
        backend.sessions.finish_delete(alice.user_id, upload.session_uuid)
        assert backend.usage(alice) == (1, 0)

    def test_an_unknown_upload_or_somebody_elses_is_not_found(self, backend):
        alice, bob = user(backend), user(backend)
        upload, token = claimed(backend, alice)

        for caller, upload_id in ((bob, upload.id), (alice, a_uuid())):
            with pytest.raises(UploadNotFoundError):
                backend.uploads.record(caller.user_id, upload_id, token, result(upload))


class TestFail:
    def test_a_failed_upload_keeps_its_reason_and_frees_its_quota(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)

        failed = backend.uploads.fail(alice.user_id, upload.id, token, FAILURE)

        assert (failed.state, failed.failure) == (UploadState.FAILED, FAILURE)
        assert backend.usage(alice) == (0, 0)

    def test_it_fails_once(self, backend):
        alice = user(backend)
        opened(backend, alice, file_name="other.bin")
        upload, token = claimed(backend, alice)
        failed = backend.uploads.fail(alice.user_id, upload.id, token, FAILURE)

        # The call is repeated where its answer was lost.
        assert backend.uploads.fail(alice.user_id, upload.id, token, FAILURE) == failed
        with pytest.raises(LeaseLostError):
            backend.uploads.fail(alice.user_id, upload.id, token, {"code": "another"})
        assert backend.uploads.get(alice, upload.id) == failed
        assert backend.usage(alice) == (1, 10)

    @pytest.mark.parametrize("state", ["open", "assembled", "aborted", "expiring", "expired"])
    def test_an_upload_that_nobody_holds_does_not_fail(self, backend, state):
        alice = user(backend)
        upload = in_state(backend, alice, state)
        usage = backend.usage(alice)

        with pytest.raises(LeaseLostError):
            backend.uploads.fail(alice.user_id, upload.id, a_uuid(), FAILURE)
        assert backend.uploads.get(alice, upload.id) == upload
        assert backend.usage(alice) == usage


class TestAbort:
    def test_an_aborted_upload_frees_its_quota_once(self, backend):
        alice = user(backend)
        opened(backend, alice, file_name="other.bin")
        upload = opened(backend, alice)

        first = backend.uploads.abort(alice.user_id, upload.id)
        second = backend.uploads.abort(alice.user_id, upload.id)

        assert (first.state, second) == (UploadState.ABORTED, first)
        assert backend.usage(alice) == (1, 10)

    def test_a_failed_upload_has_given_its_quota_back_already(self, backend):
        alice = user(backend)
        opened(backend, alice, file_name="other.bin")
        upload = in_state(backend, alice, "failed")

        assert backend.uploads.abort(alice.user_id, upload.id).state is UploadState.ABORTED
        assert backend.usage(alice) == (1, 10)

    def test_an_upload_whose_assembly_died_is_aborted(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)
        backend.make_older(upload.id, hours=1)

        assert backend.uploads.abort(alice.user_id, upload.id).state is UploadState.ABORTED

        assert backend.usage(alice) == (0, 0)
        with pytest.raises(LeaseLostError):
            backend.uploads.record(alice.user_id, upload.id, token, result(upload))

    @pytest.mark.parametrize("state", ["assembling", "assembled", "expiring", "expired"])
    def test_no_other_upload_is_aborted(self, backend, state):
        alice = user(backend)
        upload = in_state(backend, alice, state)
        usage = backend.usage(alice)

        with pytest.raises(WrongStateError) as caught:
            backend.uploads.abort(alice.user_id, upload.id)

        assert caught.value.details == {"state": state}
        assert backend.uploads.get(alice, upload.id) == upload
        assert backend.usage(alice) == usage

    def test_an_unknown_upload_or_somebody_elses_is_not_found(self, backend):
        alice, bob = user(backend), user(backend)
        upload = opened(backend, alice)

        for caller, upload_id in ((bob, upload.id), (alice, a_uuid())):
            with pytest.raises(UploadNotFoundError):
                backend.uploads.abort(caller.user_id, upload_id)
        assert backend.uploads.get(alice, upload.id) == upload


class TestSweep:
    """Ages are in decades, so that nothing but the suite's own uploads is swept in a database that others use too."""

    @staticmethod
    def sweep(backend: Backend, *, limit: int = 1000, dry_run: bool = False) -> list[str]:
        swept = backend.uploads.begin_sweep(max_age_hours=20 * YEARS, limit=limit, dry_run=dry_run)
        return [upload.id for upload in swept]

    def test_a_stale_open_upload_begins_to_expire_and_ends_expired(self, backend):
        alice = user(backend)
        upload = opened(backend, alice)
        backend.make_older(upload.id, hours=21 * YEARS)

        assert upload.id in self.sweep(backend)
        assert backend.uploads.get(alice, upload.id).state is UploadState.EXPIRING
        # Until its objects are gone they count.
        assert backend.usage(alice) == (1, 10)
        backend.uploads.finish_sweep(upload.id)

        assert backend.uploads.get(alice, upload.id).state is UploadState.EXPIRED
        assert backend.usage(alice) == (0, 0)
        assert upload.id not in self.sweep(backend)

    def test_the_swept_say_what_they_are_now(self, backend):
        alice = user(backend)
        upload = opened(backend, alice)
        backend.make_older(upload.id, hours=21 * YEARS)

        [swept] = [
            swept
            for swept in backend.uploads.begin_sweep(max_age_hours=20 * YEARS, limit=1000, dry_run=False)
            if swept.id == upload.id
        ]

        assert swept == backend.uploads.get(alice, upload.id)

    def test_an_upload_that_began_to_expire_is_returned_until_it_is_finished(self, backend):
        upload = in_state(backend, user(backend), "expiring")

        assert upload.id in self.sweep(backend)
        assert upload.id in self.sweep(backend)
        backend.uploads.finish_sweep(upload.id)
        assert upload.id not in self.sweep(backend)

    def test_a_younger_open_upload_stays(self, backend):
        alice = user(backend)
        upload = opened(backend, alice)
        backend.make_older(upload.id, hours=19 * YEARS)

        assert upload.id not in self.sweep(backend)
        assert backend.uploads.get(alice, upload.id).state is UploadState.OPEN

    def test_an_upload_under_a_live_lease_is_never_returned(self, backend):
        alice = user(backend)
        upload, _ = claimed(backend, alice, lease_s=30 * YEARS * 3600)
        backend.make_older(upload.id, hours=29 * YEARS)

        assert upload.id not in self.sweep(backend)
        assert backend.uploads.get(alice, upload.id).state is UploadState.ASSEMBLING

    def test_a_stale_upload_whose_lease_ran_out_begins_to_expire_and_its_worker_has_lost_it(self, backend):
        alice = user(backend)
        upload, token = claimed(backend, alice)
        backend.make_older(upload.id, hours=21 * YEARS)

        assert upload.id in self.sweep(backend)

        assert backend.uploads.get(alice, upload.id).state is UploadState.EXPIRING
        with pytest.raises(LeaseLostError):
            backend.uploads.record(alice.user_id, upload.id, token, result(upload))

    @pytest.mark.parametrize("state", ["assembled", "failed", "aborted"])
    def test_a_finished_upload_is_returned_after_an_hour_until_it_is_swept(self, backend, state):
        alice = user(backend)
        upload = in_state(backend, alice, state)
        usage = backend.usage(alice)
        backend.make_older(upload.id, minutes=59)
        assert upload.id not in self.sweep(backend)
        backend.make_older(upload.id, minutes=1)

        assert upload.id in self.sweep(backend)
        backend.uploads.finish_sweep(upload.id)

        assert upload.id not in self.sweep(backend)
        assert backend.uploads.get(alice, upload.id).state == state
        assert backend.usage(alice) == usage

    def test_sweeping_a_finished_upload_does_not_make_it_look_modified(self, backend):
        alice = user(backend)
        upload = in_state(backend, alice, "assembled")

        backend.uploads.finish_sweep(upload.id)

        assert backend.uploads.get(alice, upload.id) == upload

    @pytest.mark.parametrize("state", ["open", "assembling"])
    def test_a_live_upload_cannot_be_finished_off(self, backend, state):
        alice = user(backend)
        upload = in_state(backend, alice, state)

        backend.uploads.finish_sweep(upload.id)

        assert backend.uploads.get(alice, upload.id) == upload
        assert backend.usage(alice) == (1, 10)

    def test_finishing_twice_frees_once(self, backend):
        alice = user(backend)
        opened(backend, alice, file_name="other.bin")
        upload = in_state(backend, alice, "expiring")

        backend.uploads.finish_sweep(upload.id)
        backend.uploads.finish_sweep(upload.id)

        assert backend.usage(alice) == (1, 10)

    def test_finishing_an_unknown_upload_does_nothing(self, backend):
        backend.uploads.finish_sweep(a_uuid())

    def test_a_dry_run_returns_the_same_and_changes_nothing(self, backend):
        alice = user(backend)
        uploads = [opened(backend, alice, file_name="a"), in_state(backend, alice, "aborted", file_name="b")]
        for upload in uploads:
            backend.make_older(upload.id, hours=21 * YEARS)
        before = [backend.uploads.get(alice, upload.id) for upload in uploads]

        dry = self.sweep(backend, dry_run=True)

        assert {upload.id for upload in uploads} <= set(dry)
        assert [backend.uploads.get(alice, upload.id) for upload in uploads] == before
        assert set(self.sweep(backend)) == set(dry)

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_the_oldest_come_first_and_no_more_than_asked_for(self, backend, dry_run):
        alice = user(backend)
        ages = {"a": 40, "b": 60, "c": 50}
        uploads = {name: opened(backend, alice, file_name=name) for name in ages}
        uploads["d"] = in_state(backend, alice, "aborted", file_name="d")
        for name, age in (ages | {"d": 55}).items():
            backend.make_older(uploads[name].id, hours=age * YEARS)

        assert self.sweep(backend, limit=3, dry_run=dry_run) == [uploads[name].id for name in "bdc"]

    def test_of_an_assembly_and_a_sweep_at_once_one_wins(self, backend):
        alice = user(backend)
        for number in range(8):
            upload = opened(backend, alice, file_name=f"{number}")
            backend.make_older(upload.id, hours=21 * YEARS)

            def assemble(upload: Upload = upload) -> str:
                try:
                    backend.uploads.claim(alice.user_id, upload.id, a_uuid(), LEASE_S)
                except ServiceError:
                    return "refused"
                return "claimed"

            with ThreadPoolExecutor(2) as pool:
                claim, sweep = pool.submit(assemble), pool.submit(self.sweep, backend)
                outcome = (claim.result(), upload.id in sweep.result())

            assert outcome in {("claimed", False), ("refused", True)}

    def test_two_sweeps_at_once_free_the_quota_once(self, backend):
        alice = user(backend)
        opened(backend, alice, file_name="other.bin")
        upload = in_state(backend, alice, "expiring")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(backend.uploads.finish_sweep, [upload.id] * 2))

        assert backend.usage(alice) == (1, 10)


def test_of_finalizing_and_opening_an_upload_at_once_neither_breaks_the_other(backend):
    """Either the upload is in and finalizing names it, or the session is closed and the upload refused."""
    alice = backend.user()
    for number in range(8):
        name = f"session-{number}"
        backend.sessions.init(alice.user_id, name, {})

        def attempt(action: Any) -> bool:
            try:
                action()
            except ServiceError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            create = pool.submit(attempt, lambda name=name: opened(backend, alice, session_id=name))
            finalize = pool.submit(attempt, lambda name=name: backend.sessions.finalize(alice.user_id, name))

        assert create.result() != finalize.result()
        assert len(backend.uploads.of_session(alice, name)[1]) == create.result()

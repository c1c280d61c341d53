"""The rules of deleting sessions, on fakes."""

from contextlib import suppress

import pytest

from shared.assembly import LEASE_S
from shared.errors import SessionBusyError, SessionNotFoundError, StorageUnavailableError, UploadNotFoundError
from shared.publication import results_prefix
from shared.records.objects import models_prefix
from tests.factories import ALICE, BOB, Bench, a_caller, a_uuid, upload_fields
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.sessions import InMemorySessions
from tests.fakes.uploads import InMemoryUploads
from tests.interruption import Killed, every_interruption


@pytest.fixture
def bench() -> Bench:
    return Bench()


def fill_session(bench: Bench, session_id: str = "weather") -> str:
    """Give a session an assembled upload, an open one, results and a model; return its row id."""
    assembled = bench.open_upload(b"a,b\n1,2\n", sessionId=session_id, fileName="hours.csv")
    bench.upload_service().assemble(ALICE, assembled.id)
    bench.open_upload(b"0123456789", sessionId=session_id, fileName="open.bin")
    session_uuid = assembled.session_uuid
    bench.artifacts.write(f"{results_prefix(session_uuid)}run/manifest.json", b"{}", "application/json")
    bench.artifacts.write(f"{models_prefix(session_uuid)}model.h5", b"h5", "application/x-hdf5")
    return session_uuid


def test_every_row_and_every_object_goes(bench):
    fill_session(bench)

    deletion = bench.deletion_service().delete(ALICE, "weather")

    assert (deletion.rows["sessions"], deletion.rows["uploads"]) == (1, 2)
    assert deletion.n_objects == 1 + 3 + 2
    assert (bench.store.names(), bench.artifacts.names()) == ([], [])
    assert (bench.database.sessions, bench.database.uploads) == ({}, {})
    assert bench.database.usage[ALICE].bytes_stored == 0


def test_the_units_of_files_that_were_assembled_stay_used(bench):
    fill_session(bench)

    bench.deletion_service().delete(ALICE, "weather")

    assert bench.database.usage[ALICE].processing_used == 1


def test_other_sessions_stay(bench):
    fill_session(bench)
    fill_session(bench, "other")
    n_before = len(bench.store.names())

    bench.deletion_service().delete(ALICE, "weather")

    assert [row.record.session_id for row in bench.database.sessions.values()] == ["other"]
    assert len(bench.store.names()) == n_before / 2
    assert len(bench.artifacts.names()) == 2


def test_deleting_twice_is_not_found(bench):
    bench.open_session()
    bench.deletion_service().delete(ALICE, "weather")

    with pytest.raises(SessionNotFoundError):
        bench.deletion_service().delete(ALICE, "weather")


@pytest.mark.parametrize("name", ["unknown", "..", "a b", ""])
def test_a_name_of_no_session_is_not_found(bench, name):
    with pytest.raises(SessionNotFoundError):
        bench.deletion_service().delete(ALICE, name)


def test_a_session_of_somebody_else_is_none(bench):
    fill_session(bench)

    with pytest.raises(SessionNotFoundError):
        bench.deletion_service().delete(BOB, "weather")
    assert len(bench.store.names()) == 4


def test_a_session_whose_upload_is_being_assembled_is_busy_and_stays(bench):
    upload = bench.open_upload(b"0123456789")
    InMemoryUploads(bench.database).claim(ALICE, upload.id, a_uuid(), LEASE_S)

    with pytest.raises(SessionBusyError):
        bench.deletion_service().delete(ALICE, "weather")
    assert len(bench.store.names()) == 3
    assert bench.session_service().get(a_caller(), "weather")


def test_the_name_is_free_again(bench):
    old = bench.open_session()
    bench.deletion_service().delete(ALICE, "weather")

    assert bench.open_session().id != old.id


def test_while_it_is_being_deleted_a_session_is_hidden_and_its_name_busy(bench):
    upload = bench.open_upload(b"0123456789")
    InMemorySessions(bench.database).begin_delete(ALICE, "weather")

    with pytest.raises(SessionNotFoundError):
        bench.session_service().get(a_caller(), "weather")
    with pytest.raises(UploadNotFoundError):
        bench.upload_service().get(a_caller(), upload.id)
    with pytest.raises(SessionNotFoundError):
        bench.upload_service().create(ALICE, upload_fields(fileName="new.bin"))
    with pytest.raises(SessionBusyError):
        bench.session_service().init(ALICE, "weather", None)
    assert bench.session_service().page(a_caller(), limit=1, page_token="", user_id=None).sessions == []


def interrupted_deletion(interruption) -> Bench:
    """Delete a session full of everything until the interruption; return where that was."""
    bench = Bench()
    fill_session(bench)
    service = bench.deletion_service(
        sessions=interruption.wrap(InMemorySessions(bench.database)),
        store=interruption.wrap(bench.store),
        artifacts=interruption.wrap(bench.artifacts),
    )
    with suppress(Killed):
        service.delete(ALICE, "weather")
    return bench


def test_killed_at_any_call_and_called_again_nothing_is_left():
    for interruption in every_interruption():
        bench = interrupted_deletion(interruption)
        # The last call may have done its work before the answer was lost.
        with suppress(SessionNotFoundError):
            bench.deletion_service().delete(ALICE, "weather")

        check_nothing_is_left(bench, interruption)


def test_killed_at_any_call_the_cleanup_finishes_it():
    for interruption in every_interruption():
        bench = interrupted_deletion(interruption)
        bench.database.advance(hours=2)
        was_hidden = any(row.deleting_at for row in bench.database.sessions.values())

        n_finished = bench.deletion_service().finish_deletions(max_age_hours=24, limit=10)

        assert n_finished == int(was_hidden), interruption
        # Killed before the session was hidden, nothing has been asked of anybody yet.
        if was_hidden or not bench.database.sessions:
            check_nothing_is_left(bench, interruption)
        else:
            assert len(bench.store.names()) == 4, interruption


def check_nothing_is_left(bench, interruption):
    assert (bench.store.names(), bench.artifacts.names()) == ([], []), interruption
    assert (bench.database.sessions, bench.database.uploads) == ({}, {}), interruption
    assert bench.database.usage[ALICE].bytes_stored == 0, interruption


def test_a_deletion_that_cannot_be_finished_now_leaves_the_others_to_finish(bench):
    class FailingStore(InMemoryObjectStore):
        def list(self, prefix):
            if prefix.startswith("datasets/" + first):
                raise StorageUnavailableError
            return bench.store.list(prefix)

    first = fill_session(bench, "first")
    fill_session(bench, "second")
    for name in ("first", "second"):
        InMemorySessions(bench.database).begin_delete(ALICE, name)
    bench.database.advance(hours=2)

    with pytest.raises(StorageUnavailableError):
        bench.deletion_service(store=FailingStore()).finish_deletions(max_age_hours=24, limit=10)
    assert bench.deletion_service().finish_deletions(max_age_hours=24, limit=10) == 2
    assert bench.database.sessions == {}

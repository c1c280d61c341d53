import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.csv_rows import CsvRowCounter
from shared.assembly import LEASE_S
from shared.chunks import LARGEST_LEGACY_CHUNK_BYTES, MIB
from shared.errors import (
    ChecksumMismatchError,
    ChunkMismatchError,
    ChunksMissingError,
    DatabaseUnavailableError,
    DataSetError,
    FileExistsInSessionError,
    InvalidFieldError,
    LeaseLostError,
    ProcessingLimitError,
    ServiceError,
    SessionFinalizedError,
    SessionNotFoundError,
    StorageLimitError,
    StorageUnavailableError,
    SubscriptionRequiredError,
    TooLargeError,
    UploadNotFoundError,
    UploadsUnfinishedError,
    WrongStateError,
)
from shared.legacy_chunks import LegacyChunk
from shared.records.objects import StoredObject, chunk_name, chunks_prefix, steps_prefix
from shared.records.uploads import Upload, UploadState
from shared.tables import TableFormat
from shared.uploads import LARGEST_FILE_BYTES, TableView
from tests.factories import ALICE, BOB, CHUNK_BYTES, Bench, a_caller, a_uuid, chunk_of, some_bytes, upload_fields
from tests.fakes.objects import InMemoryObjectStore, contents_of, crc32c_of
from tests.fakes.sessions import InMemorySessions, Subscription
from tests.fakes.uploads import InMemoryUploads
from tests.interruption import Interruption, Killed, every_interruption
from tests.upload_rules import UploadRules

TABLE = b"a,b\n" + b"1,2\n" * 32  # 33 chunks of four bytes


@pytest.fixture
def bench() -> Bench:
    return Bench()


def used(bench: Bench, owner: str = ALICE) -> tuple[int, int]:
    """Return processing units and bytes that the owner uses."""
    usage = bench.database.usage.get(owner)
    return (usage.processing_used, usage.bytes_stored) if usage else (0, 0)


def sweep_later(bench: Bench) -> None:
    """Run the cleanup when everything finished is old enough for it."""
    bench.database.advance(hours=2)
    bench.upload_service().sweep()


def data_set_of(bench: Bench, upload: Upload) -> bytes:
    return bench.store.content(bench.row(upload).object_name)


class TestCreate:
    @pytest.mark.parametrize(
        ("size", "chunk_mib", "total_chunks"),
        [
            (0, 8, 0),
            (1, 8, 1),
            (8 * MIB, 8, 1),
            (8 * MIB + 1, 8, 2),
            (1024 * 8 * MIB, 8, 1024),
            (1024 * 8 * MIB + 1, 9, 911),
            (LARGEST_FILE_BYTES, 5120, 1024),
        ],
    )
    def test_the_size_decides_how_many_chunks_there_are(self, bench, size, chunk_mib, total_chunks):
        upload = self.created(bench, size=size)

        assert (upload.chunk_size_bytes, upload.total_chunks) == (chunk_mib * MIB, total_chunks)

    @given(size=st.integers(0, LARGEST_FILE_BYTES), wish=st.integers(0, 1 << 40))
    def test_the_chunks_of_a_plan_make_up_the_file_and_are_1024_at_most(self, size, wish):
        upload = self.created(Bench(), size=size, chunkSize=wish)
        sizes = [upload.chunk_bytes(index) for index in range(upload.total_chunks)]

        assert sum(sizes) == size
        assert len(sizes) <= 1024
        assert all(0 < n_bytes <= upload.chunk_size_bytes for n_bytes in sizes)
        assert set(sizes[:-1]) <= {upload.chunk_size_bytes}

    @pytest.mark.parametrize(("wish", "chunk_mib"), [(0, 8), (1, 8), (8 * MIB, 8), (20 * MIB, 16), (16 * MIB, 16)])
    def test_a_wish_for_larger_chunks_is_granted_in_steps_of_8_mib(self, bench, wish, chunk_mib):
        assert self.created(bench, size=100 * MIB, chunkSize=wish).chunk_size_bytes == chunk_mib * MIB

    @staticmethod
    def created(bench: Bench, **fields: Any) -> Upload:
        bench.open_session()
        service = UploadRules(
            InMemoryUploads(bench.database),
            InMemorySessions(bench.database),
            bench.store,
            bench.signer,
            CsvRowCounter(),
        )
        upload, _, _ = service.create(ALICE, upload_fields(**fields))
        return upload

    def test_the_answer_holds_the_first_128_signed_chunks(self, bench):
        bench.open_session()

        upload, chunks, _ = bench.upload_service().create(ALICE, upload_fields(size=CHUNK_BYTES * 200))

        assert upload.total_chunks == 200
        assert [chunk.index for chunk in chunks] == list(range(128))

    @pytest.mark.parametrize("presign", [0, 3])
    def test_no_more_chunks_are_signed_than_are_wanted(self, bench, presign):
        bench.open_session()

        fields = upload_fields(size=CHUNK_BYTES * 5, presign=presign)
        _, chunks, _ = bench.upload_service().create(ALICE, fields)

        assert [chunk.index for chunk in chunks] == list(range(presign))

    @pytest.mark.parametrize("presign", [-1, 129, "3", True, 1.5])
    def test_a_number_of_chunks_that_no_call_signs_is_refused(self, bench, presign):
        bench.open_session()

        with pytest.raises(InvalidFieldError) as refusal:
            bench.upload_service().create(ALICE, upload_fields(presign=presign))

        assert refusal.value.details["field"] == "presign"
        assert used(bench) == (0, 0)

    def test_a_signed_chunk_allows_one_write_of_exactly_its_size(self, bench):
        bench.open_session()
        _, chunks, _ = bench.upload_service().create(ALICE, upload_fields(size=6))
        first, last = chunks

        assert (first.size_bytes, last.size_bytes) == (4, 2)
        assert first.request.headers == {"x-goog-content-length-range": "4,4", "x-goog-if-generation-match": "0"}
        assert bench.send(last, b"three") == 400
        assert bench.send(last, b"56") == 200
        assert bench.send(last, b"56") == 412

    def test_creating_twice_gives_the_same_upload_and_counts_once(self, bench):
        bench.open_session()
        service = bench.upload_service()

        first, _, is_first_new = service.create(ALICE, upload_fields())
        second, chunks, is_second_new = service.create(ALICE, upload_fields())

        assert (first.id, is_first_new, is_second_new) == (second.id, True, False)
        assert len(chunks) == first.total_chunks
        assert used(bench) == (1, 10)

    @pytest.mark.parametrize("other", [{"size": 11}, {"sha256": "ab" * 32}])
    def test_another_file_of_the_same_name_is_refused(self, bench, other):
        bench.open_session()
        upload, _, _ = bench.upload_service().create(ALICE, upload_fields())

        with pytest.raises(FileExistsInSessionError) as caught:
            bench.upload_service().create(ALICE, upload_fields(**other))

        assert caught.value.details["uploadId"] == upload.id
        assert used(bench) == (1, 10)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("sessionId", "../x"),
            ("fileName", "/etc/passwd"),
            ("fileName", "a\x00"),
            ("size", -1),
            ("size", LARGEST_FILE_BYTES + 1),
            ("size", "10"),
            ("size", 1.5),
            ("size", True),
            ("chunkSize", -1),
            ("chunkSize", "8"),
            ("contentType", "csv"),
            ("sha256", "x"),
        ],
    )
    def test_a_field_that_is_not_allowed_is_named_and_nothing_is_counted(self, bench, field, value):
        bench.open_session()

        with pytest.raises(InvalidFieldError) as caught:
            bench.upload_service().create(ALICE, upload_fields(**{field: value}))

        assert caught.value.details["field"] == field
        assert (bench.database.uploads, used(bench)) == ({}, (0, 0))

    @pytest.mark.parametrize(
        ("subscription", "error"),
        [
            (None, SubscriptionRequiredError),
            (Subscription(is_active=False), SubscriptionRequiredError),
            (Subscription(processing_limit=0), ProcessingLimitError),
            (Subscription(bytes_stored_limit=9), StorageLimitError),
            (Subscription(bytes_per_upload_limit=9), TooLargeError),
        ],
    )
    def test_a_limit_refuses_the_upload_and_leaves_nothing(self, bench, subscription, error):
        bench.open_session()
        bench.database.subscriptions[ALICE] = subscription

        with pytest.raises(error):
            bench.upload_service().create(ALICE, upload_fields())

        assert (bench.database.uploads, used(bench)) == ({}, (0, 0))

    def test_a_session_of_somebody_else_is_none(self, bench):
        bench.open_session(owner=BOB)

        with pytest.raises(SessionNotFoundError):
            bench.upload_service().create(ALICE, upload_fields())


class TestSignChunks:
    def test_a_known_checksum_becomes_part_of_the_request(self, bench):
        upload = bench.open_upload(b"0123456789", missing=[0, 1, 2])
        entry = {"index": 1, "crc32c": crc32c_of(b"4567")}

        _, [chunk] = bench.upload_service().sign_chunks(a_caller(), upload.id, [entry])

        assert chunk.request.headers["x-goog-hash"] == f"crc32c={crc32c_of(b'4567')}"
        assert bench.send(chunk, b"45x7") == 400
        assert bench.send(chunk, b"4567") == 200

    def test_chunks_are_signed_in_the_order_asked_for(self, bench):
        upload = bench.open_upload(bytes(400))

        _, chunks = bench.upload_service().sign_chunks(a_caller(), upload.id, [{"index": i} for i in (99, 3, 50)])

        assert [chunk.index for chunk in chunks] == [99, 3, 50]

    def test_signing_moves_the_expiry_on(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.database.advance(hours=23)

        extended, _ = bench.upload_service().sign_chunks(a_caller(), upload.id, [{"index": 0}])

        assert (extended.expires_at - upload.expires_at).total_seconds() >= 23 * 3600

    @pytest.mark.parametrize(
        "chunks",
        [
            None,
            {},
            [],
            "0",
            [0],
            [{}],
            [{"index": -1}],
            [{"index": "0"}],
            [{"index": True}],
            [{"index": 1024}],
            [{"index": 3}],
            [{"index": 0}, {"index": 0}],
            [{"index": 0, "size": 4}],
            [{"index": 0, "crc32c": "short"}],
            [{"index": 0, "crc32c": 5}],
            [{"index": 0, "crc32c": ["AAAAAA=="]}],
            [{"index": 0, "crc32c": "AAAAAA==\r\nx: y"}],
            [{"index": index} for index in range(129)],
        ],
    )
    def test_a_list_of_chunks_that_is_not_allowed_changes_nothing(self, bench, chunks):
        upload = bench.open_upload(b"0123456789", missing=[0])
        before = bench.row(upload)
        bench.database.advance(hours=1)

        with pytest.raises(InvalidFieldError) as caught:
            bench.upload_service().sign_chunks(a_caller(), upload.id, chunks)

        assert caught.value.details["field"].startswith("chunks")
        assert bench.row(upload) == before

    def test_an_upload_of_somebody_else_is_none(self, bench):
        upload = bench.open_upload(b"0123456789")

        for upload_id in (upload.id, a_uuid(), "no-uuid"):
            with pytest.raises(UploadNotFoundError):
                bench.upload_service().sign_chunks(a_caller(BOB), upload_id, [{"index": 0}])

    def test_an_upload_that_is_assembled_takes_no_more_chunks(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.upload_service().assemble(ALICE, upload.id)

        with pytest.raises(WrongStateError) as caught:
            bench.upload_service().sign_chunks(a_caller(), upload.id, [{"index": 0}])
        assert caught.value.details["state"] == "assembled"


class TestGet:
    def test_progress_is_what_the_bucket_holds(self, bench):
        upload = bench.open_upload(b"0123456789", missing=[1])

        progress = bench.upload_service().get(a_caller(), upload.id)

        assert list(progress.missing) == [1]
        assert [(chunk.index, chunk.stored.size_bytes, chunk.stored.crc32c) for chunk in progress.received] == [
            (0, 4, crc32c_of(b"0123")),
            (2, 2, crc32c_of(b"89")),
        ]

    def test_an_assembled_upload_misses_nothing(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.upload_service().assemble(ALICE, upload.id)

        progress = bench.upload_service().get(a_caller(), upload.id)

        assert (progress.upload.state, progress.received, progress.missing) == (UploadState.ASSEMBLED, [], [])

    @pytest.mark.parametrize("upload_id", ["no-uuid", "", "..", a_uuid(), "0" * 1000])
    def test_an_id_of_no_upload_is_not_found(self, bench, upload_id):
        with pytest.raises(UploadNotFoundError):
            bench.upload_service().get(a_caller(), upload_id)

    def test_an_upload_of_somebody_else_is_none(self, bench):
        upload = bench.open_upload(b"0123456789")

        with pytest.raises(UploadNotFoundError):
            bench.upload_service().get(a_caller(BOB), upload.id)

    def test_an_id_is_found_in_upper_case_too(self, bench):
        upload = bench.open_upload(b"0123456789")

        assert bench.upload_service().get(a_caller(), upload.id.upper()).upload.id == upload.id


class TestTableSeenEarly:
    CONTENT = b"day;t\n1;2\n2;3\n"

    def view(self, bench: Bench, content: bytes, missing: Sequence[int] = (), **fields: Any) -> TableView | None:
        upload = bench.open_upload(content, missing=missing, **{"fileName": "hours.csv"} | fields)
        return bench.upload_service().get(a_caller(ALICE), upload.id).table

    def test_the_first_chunk_says_how_the_table_is_written_before_the_rest_is_there(self, bench, monkeypatch):
        monkeypatch.setattr("tests.factories.CHUNK_BYTES", 12)
        view = self.view(bench, self.CONTENT, missing=[1])

        assert view.format == TableFormat(";", "utf-8", None)
        assert [(column.name, column.type) for column in view.columns] == [("day", "integer"), ("t", "integer")]
        assert view.problem is None

    def test_what_is_wrong_is_said_with_the_first_chunk(self, bench, monkeypatch):
        monkeypatch.setattr("tests.factories.CHUNK_BYTES", 12)

        assert "PNG picture" in self.view(bench, b"\x89PNG\r\n\x1a\n" * 4, missing=[1]).problem.message
        ragged = self.view(bench, b"a,b\n1,2\n1,2,3\n", fileName="ragged.csv", chunkSize=24).problem
        assert ragged.message == "Row 2 has 3 columns; the header has 2."

    def test_without_the_first_chunk_nothing_is_said(self, bench):
        assert self.view(bench, self.CONTENT, missing=[0]) is None

    def test_of_a_file_that_is_no_table_nothing_is_said(self, bench):
        assert self.view(bench, self.CONTENT, fileName="hours.bin") is None


class TestReuse:
    CONTENT = b"0123456789"
    SHA256 = hashlib.sha256(CONTENT).hexdigest()

    def reused(self, bench: Bench, *, owner: str = ALICE, session_id: str = "other", **fields: Any) -> Any:
        bench.open_session(session_id, owner=owner)
        defaults = {"sessionId": session_id, "size": len(self.CONTENT), "sha256": self.SHA256}
        return bench.upload_service().create(owner, upload_fields(**defaults | fields))

    def first(self, bench: Bench) -> Upload:
        upload = bench.open_upload(self.CONTENT, sha256=self.SHA256)
        return bench.upload_service().assemble(ALICE, upload.id)

    def test_an_equal_file_of_the_owner_is_there_without_sending_a_byte(self, bench):
        first = self.first(bench)

        upload, chunks, is_new = self.reused(bench)

        assert (upload.state, list(chunks), is_new) == (UploadState.ASSEMBLED, [], True)
        assert data_set_of(bench, upload) == self.CONTENT
        assert upload.object_name != first.object_name
        assert bench.database.usage[ALICE].bytes_stored == 2 * len(self.CONTENT)

    def test_the_copy_outlives_the_first(self, bench):
        first = self.first(bench)
        upload, _, _ = self.reused(bench)

        bench.deletion_service().delete(ALICE, first.session_id)

        assert data_set_of(bench, upload) == self.CONTENT

    @pytest.mark.parametrize("fields", [{"sha256": "ab" * 32}, {"size": 11}])
    def test_another_content_is_sent(self, bench, fields):
        self.first(bench)

        upload, chunks, _ = self.reused(bench, **fields)

        assert upload.state is UploadState.OPEN
        assert chunks

    def test_somebody_elses_equal_file_is_not_known(self, bench):
        self.first(bench)

        upload, chunks, _ = self.reused(bench, owner=BOB)

        assert upload.state is UploadState.OPEN
        assert chunks

    def test_an_object_that_is_gone_is_sent_again(self, bench):
        first = self.first(bench)
        bench.store.delete([bench.store.stat(first.object_name)])

        upload, chunks, _ = self.reused(bench)

        assert upload.state is UploadState.OPEN
        assert chunks

    def test_killed_on_the_way_it_is_there_when_asked_again(self):
        for interruption in every_interruption():
            bench = Bench()
            self.first(bench)
            bench.open_session("other")
            fields = upload_fields(sessionId="other", size=len(self.CONTENT), sha256=self.SHA256)
            with suppress(Killed):
                TestInterruptedAssembly.interrupted(bench, interruption).create(ALICE, fields)
            bench.database.advance(seconds=LEASE_S)
            _, uploads = InMemoryUploads(bench.database).of_session(a_caller(ALICE), "other")
            if not uploads:
                uploads = [bench.upload_service().create(ALICE, fields)[0]]

            assembled = bench.upload_service().assemble(ALICE, uploads[0].id)

            assert data_set_of(bench, assembled) == self.CONTENT, interruption
            assert used(bench) == (2, 2 * len(self.CONTENT)), interruption


class TestAssemble:
    @pytest.mark.parametrize("n_bytes", [0, 1, 4, 5, 8, 32 * 4, 32 * 4 + 1, 33 * 4, 1024 * 4 - 1, 1024 * 4])
    def test_the_object_has_the_bytes_of_the_file_and_nothing_else_is_left(self, bench, n_bytes):
        content = some_bytes(n_bytes)
        upload = bench.open_upload(content)

        assembled = bench.upload_service().assemble(ALICE, upload.id)

        assert assembled.state is UploadState.ASSEMBLED
        assert (assembled.size_bytes, assembled.crc32c) == (n_bytes, crc32c_of(content))
        assert contents_of(bench.store) == {assembled.object_name: content}
        assert used(bench) == (1, n_bytes)

    def test_the_object_is_named_by_uuids_and_ends_in_the_file_name(self, bench):
        upload = bench.open_upload(b"a\n1\n", fileName="Größe 'x'%2F.csv", contentType="text/csv")

        assembled = bench.upload_service().assemble(ALICE, upload.id)

        assert assembled.object_name == f"datasets/{upload.session_uuid}/{upload.id}/Größe 'x'%2F.csv"
        assert bench.store.content_type(assembled.object_name) == "text/csv"

    def test_assembling_twice_returns_the_same_object(self, bench):
        upload = bench.open_upload(b"0123456789")

        first = bench.upload_service().assemble(ALICE, upload.id)
        second = bench.upload_service().assemble(ALICE, upload.id)

        assert first == second

    def test_a_missing_chunk_is_named_and_the_upload_stays_open(self, bench):
        upload = bench.open_upload(some_bytes(5 * CHUNK_BYTES), missing=[1, 3])

        with pytest.raises(ChunksMissingError) as caught:
            bench.upload_service().assemble(ALICE, upload.id)

        assert caught.value.details == {"missing": [1, 3], "n_missing": 2}
        assert bench.row(upload).state is UploadState.OPEN
        assert len(bench.store.names()) == 3
        assert used(bench) == (1, 20)

    def test_many_missing_chunks_are_counted_and_the_first_thousand_named(self, bench):
        upload = bench.open_upload(some_bytes(1024 * CHUNK_BYTES), missing=range(1, 1024))

        with pytest.raises(ChunksMissingError) as caught:
            bench.upload_service().assemble(ALICE, upload.id)

        assert caught.value.details["missing"] == list(range(1, 1001))
        assert caught.value.details["n_missing"] == 1023

    def test_an_upload_that_missed_a_chunk_is_assembled_once_it_is_there(self, bench):
        upload = bench.open_upload(b"0123456789", missing=[1])
        with pytest.raises(ChunksMissingError):
            bench.upload_service().assemble(ALICE, upload.id)
        _, [chunk] = bench.upload_service().sign_chunks(a_caller(), upload.id, [{"index": 1}])
        bench.send(chunk, b"4567")

        bench.upload_service().assemble(ALICE, upload.id)

        assert data_set_of(bench, upload) == b"0123456789"

    def test_a_chunk_of_another_size_is_named_and_the_upload_stays_open(self, bench):
        upload = bench.open_upload(b"0123456789", missing=[1])
        bench.store.write(chunk_name(upload.id, 1), b"45678", "text/plain")

        with pytest.raises(ChunkMismatchError) as caught:
            bench.upload_service().assemble(ALICE, upload.id)

        assert caught.value.details == {"index": 1}
        assert bench.row(upload).state is UploadState.OPEN

    def test_a_second_call_leaves_the_work_to_the_first(self, bench):
        upload = bench.open_upload(b"0123456789")
        InMemoryUploads(bench.database).claim(ALICE, upload.id, a_uuid(), LEASE_S)

        assert bench.upload_service().assemble(ALICE, upload.id).state is UploadState.ASSEMBLING

    def test_work_whose_lease_ran_out_is_taken_over(self, bench):
        upload = bench.open_upload(b"0123456789")
        InMemoryUploads(bench.database).claim(ALICE, upload.id, a_uuid(), LEASE_S)
        bench.database.advance(seconds=LEASE_S)

        assert bench.upload_service().assemble(ALICE, upload.id).state is UploadState.ASSEMBLED

    def test_a_worker_that_was_overtaken_changes_nothing(self, bench):
        upload = bench.open_upload(TABLE, fileName="hours.csv")

        class SlowStore(InMemoryObjectStore):
            """Its first compose takes longer than a lease, and another call does everything meanwhile."""

            is_overtaken = False

            def compose(self, *args: Any) -> StoredObject:
                if not self.is_overtaken:
                    self.is_overtaken = True
                    bench.database.advance(seconds=LEASE_S)
                    bench.upload_service().assemble(ALICE, upload.id)
                return bench.store.compose(*args)

            def __getattribute__(self, name: str) -> Any:
                is_own = name in {"compose", "is_overtaken", "__class__", "__dict__"}
                return super().__getattribute__(name) if is_own else getattr(bench.store, name)

        with pytest.raises(LeaseLostError):
            bench.upload_service(store=SlowStore()).assemble(ALICE, upload.id)

        assembled = bench.row(upload)
        assert assembled.state is UploadState.ASSEMBLED
        sweep_later(bench)
        assert contents_of(bench.store)[assembled.object_name] == TABLE

    @pytest.mark.parametrize("state", ["abort", "fail", "expire"])
    def test_an_upload_that_came_to_nothing_cannot_be_assembled(self, bench, state):
        upload = bench.open_upload(b"\x89PNG", fileName="hours.csv")
        match state:
            case "abort":
                bench.upload_service().abort(ALICE, upload.id)
            case "fail":
                with pytest.raises(DataSetError):
                    bench.upload_service().assemble(ALICE, upload.id)
            case "expire":
                bench.database.advance(hours=25)
                bench.upload_service().sweep()

        with pytest.raises(WrongStateError):
            bench.upload_service().assemble(ALICE, upload.id)
        assert bench.store.names() == []

    @pytest.mark.parametrize("upload_id", ["no-uuid", a_uuid()])
    def test_an_id_of_no_upload_is_not_found(self, bench, upload_id):
        with pytest.raises(UploadNotFoundError):
            bench.upload_service().assemble(ALICE, upload_id)

    def test_an_upload_of_somebody_else_is_none(self, bench):
        upload = bench.open_upload(b"0123456789")

        with pytest.raises(UploadNotFoundError):
            bench.upload_service().assemble(BOB, upload.id)
        assert bench.row(upload).state is UploadState.OPEN


class TestVerify:
    def test_a_table_is_counted_and_hashed(self, bench):
        upload = bench.open_upload(TABLE, fileName="hours.csv")

        assembled = bench.upload_service().assemble(ALICE, upload.id)

        assert (assembled.n_rows, assembled.sha256) == (32, hashlib.sha256(TABLE).hexdigest())

    def test_a_file_that_is_no_table_is_not_read(self, bench):
        class UnreadStore(InMemoryObjectStore):
            def read(self, *_args: Any, **_options: Any) -> Iterator[bytes]:
                raise AssertionError("nobody asked for rows or a sha256")

        bench = Bench(store=UnreadStore())
        upload = bench.open_upload(b"0123456789")

        assembled = bench.upload_service().assemble(ALICE, upload.id)

        assert (assembled.n_rows, assembled.sha256) == (None, None)

    def test_a_declared_sha256_is_checked(self, bench):
        sha256 = hashlib.sha256(b"0123456789").hexdigest()
        upload = bench.open_upload(b"0123456789", sha256=sha256.upper())

        assert bench.upload_service().assemble(ALICE, upload.id).sha256 == sha256

    @pytest.mark.parametrize("n_bytes", [0, 10])
    def test_another_sha256_than_declared_leaves_no_object_and_the_upload_open(self, bench, n_bytes):
        upload = bench.open_upload(some_bytes(n_bytes), sha256="ab" * 32)

        with pytest.raises(ChecksumMismatchError) as caught:
            bench.upload_service().assemble(ALICE, upload.id)

        assert caught.value.details["declared"] == "ab" * 32
        assert caught.value.details["actual"] == hashlib.sha256(some_bytes(n_bytes)).hexdigest()
        assert bench.row(upload).state is UploadState.OPEN
        assert all(name.startswith("chunks/") for name in bench.store.names())

    @pytest.mark.parametrize(
        ("content", "line"), [(b"\x89PNG\r\n\x1a\n", None), (b"", 1), (b"a,b\n1,2\n1,2,3\n", 3), (b'a\n"1', 2)]
    )
    def test_a_file_that_is_no_table_though_its_name_says_so_fails_and_frees_its_quota(self, bench, content, line):
        upload = bench.open_upload(content, fileName="hours.csv")

        with pytest.raises(DataSetError) as caught:
            bench.upload_service().assemble(ALICE, upload.id)

        failed = bench.row(upload)
        assert failed.state is UploadState.FAILED
        assert failed.failure["code"] == "data_set_invalid"
        assert failed.failure["detail"] == caught.value.message
        assert line is None or failed.failure["line"] == line
        assert bench.store.names() == []
        assert used(bench) == (0, 0)

    def test_a_failed_upload_makes_room_for_another_of_its_name(self, bench):
        failed = bench.open_upload(b"\x89PNG", fileName="hours.csv")
        with pytest.raises(DataSetError):
            bench.upload_service().assemble(ALICE, failed.id)

        upload = bench.open_upload(TABLE, fileName="hours.csv")

        assert bench.upload_service().assemble(ALICE, upload.id).n_rows == 32

    @pytest.mark.parametrize("spoiled_call", [1, 2, 3])
    def test_an_object_that_is_not_what_its_parts_say_is_deleted_and_made_anew(self, bench, spoiled_call):
        class SpoilingStore(InMemoryObjectStore):
            n_composed = 0

            def compose(self, sources: Any, destination: str, content_type: str) -> StoredObject:
                self.n_composed += 1
                if self.n_composed == spoiled_call:
                    return self.write(destination, bytes(sum(s.size_bytes for s in sources)), content_type)
                return super().compose(sources, destination, content_type)

        bench = Bench(store=SpoilingStore())
        upload = bench.open_upload(TABLE, fileName="hours.csv")

        with pytest.raises(ChecksumMismatchError):
            bench.upload_service().assemble(ALICE, upload.id)
        assert bench.row(upload).state is UploadState.OPEN
        bench.upload_service().assemble(ALICE, upload.id)

        assert data_set_of(bench, upload) == TABLE

    def test_an_answer_of_the_bucket_that_breaks_off_is_no_verdict_on_the_file(self, bench):
        class BreakingStore(InMemoryObjectStore):
            def read(self, name: str, **options: Any) -> Iterator[bytes]:
                yield b"".join(super().read(name, **options))[:-4]

        bench = Bench(store=BreakingStore())
        upload = bench.open_upload(TABLE, fileName="hours.csv")

        with pytest.raises(StorageUnavailableError):
            bench.upload_service().assemble(ALICE, upload.id)
        assert bench.row(upload).state is UploadState.OPEN


class SlowReads(InMemoryObjectStore):
    """Every piece of four bytes takes a second of its own clock."""

    now = 0.0

    def read(self, name: str, **options: Any) -> Iterator[bytes]:
        for piece in super().read(name, **options):
            for at in range(0, len(piece), 4):
                self.now += 1
                yield piece[at : at + 4]

    def clock(self) -> float:
        return self.now


class TestProgressOfAssembly:
    """What others see of an assembly that reads a table of 40 bytes in ten seconds."""

    TABLE = b"a,b\n" * 10

    def assemble(self, bench: Bench, uploads: InMemoryUploads) -> Upload:
        upload = bench.open_upload(self.TABLE, fileName="hours.csv")
        assert isinstance(bench.store, SlowReads)
        return bench.upload_service(uploads=uploads, clock=bench.store.clock).assemble(ALICE, upload.id)

    def test_every_two_seconds_it_is_told_how_much_was_read(self):
        told = []

        class Onlooker(InMemoryUploads):
            def report_verified(self, owner: str, upload_id: str, *rest: Any) -> None:
                super().report_verified(owner, upload_id, *rest)
                told.append(self.get(a_caller(owner), upload_id).verified_bytes)

        bench = Bench(store=SlowReads())

        assembled = self.assemble(bench, Onlooker(bench.database))

        assert (told, assembled.n_rows) == ([8, 16, 24, 32, 40], 9)

    def test_an_assembly_of_less_than_two_seconds_tells_nothing(self, bench):
        class Silent(InMemoryUploads):
            def report_verified(self, *_args: Any) -> None:
                raise AssertionError("nobody needs to know")

        upload = bench.open_upload(self.TABLE, fileName="hours.csv")
        service = bench.upload_service(uploads=Silent(bench.database), clock=lambda: 0.0)

        assert service.assemble(ALICE, upload.id).n_rows == 9

    def test_a_database_that_takes_no_report_is_not_asked_again_and_the_file_is_read_on(self):
        class Away(InMemoryUploads):
            n_calls = 0

            def report_verified(self, *_args: Any) -> None:
                self.n_calls += 1
                raise DatabaseUnavailableError

        bench = Bench(store=SlowReads())
        uploads = Away(bench.database)

        assert self.assemble(bench, uploads).n_rows == 9
        assert uploads.n_calls == 1

    def test_a_worker_that_was_overtaken_stops_reading(self):
        class Overtaken(InMemoryUploads):
            def report_verified(self, owner: str, upload_id: str, *rest: Any) -> None:
                bench.database.advance(seconds=LEASE_S)
                self.claim(owner, upload_id, a_uuid(), LEASE_S)
                super().report_verified(owner, upload_id, *rest)

        bench = Bench(store=SlowReads())

        with pytest.raises(LeaseLostError):
            self.assemble(bench, Overtaken(bench.database))

        assert bench.store.clock() == 2


class TestInterruptedAssembly:
    def test_killed_at_any_call_and_called_again_it_ends_in_one_right_object(self):
        for interruption in every_interruption():
            bench = Bench()
            upload = bench.open_upload(TABLE, fileName="hours.csv")
            service = self.interrupted(bench, interruption)
            with suppress(Killed):
                service.assemble(ALICE, upload.id)
            # Nobody gives the lease back; it runs out.
            bench.database.advance(seconds=LEASE_S)

            assembled = bench.upload_service().assemble(ALICE, upload.id)

            self.check_result(bench, assembled, interruption)

    def test_an_error_of_any_call_and_a_second_call_end_in_one_right_object(self):
        for interruption in every_interruption():
            bench = Bench()
            upload = bench.open_upload(TABLE, fileName="hours.csv")
            service = self.interrupted(bench, interruption, StorageUnavailableError, DatabaseUnavailableError)
            with suppress(ServiceError):
                service.assemble(ALICE, upload.id)
            # Only an upload whose claim was answered with an error still has its lease.
            bench.database.advance(seconds=LEASE_S)

            assembled = bench.upload_service().assemble(ALICE, upload.id)

            self.check_result(bench, assembled, interruption)

    def test_an_error_of_the_bucket_gives_the_upload_back_at_once(self):
        for interruption in every_interruption():
            bench = Bench()
            upload = bench.open_upload(TABLE, fileName="hours.csv")
            store = interruption.wrap(bench.store, StorageUnavailableError)
            with suppress(StorageUnavailableError):
                bench.upload_service(store=store).assemble(ALICE, upload.id)

            assembled = bench.upload_service().assemble(ALICE, upload.id)

            self.check_result(bench, assembled, interruption)

    @staticmethod
    def interrupted(
        bench: Bench, interruption: Interruption, store_error: Any = Killed, database_error: Any = Killed
    ) -> UploadRules:
        return bench.upload_service(
            uploads=interruption.wrap(InMemoryUploads(bench.database), database_error),
            store=interruption.wrap(bench.store, store_error),
        )

    @staticmethod
    def check_result(bench: Bench, assembled: Upload, interruption: Interruption) -> None:
        assert assembled.state is UploadState.ASSEMBLED, interruption
        assert (assembled.n_rows, assembled.size_bytes) == (32, len(TABLE)), interruption
        sweep_later(bench)
        assert contents_of(bench.store) == {assembled.object_name: TABLE}, interruption
        assert used(bench) == (1, len(TABLE)), interruption

    def test_killed_while_it_fails_it_ends_failed_with_nothing_left(self):
        for interruption in every_interruption():
            bench = Bench()
            upload = bench.open_upload(b"\x89PNG" * 33, fileName="hours.csv")
            with suppress(Killed, DataSetError):
                self.interrupted(bench, interruption).assemble(ALICE, upload.id)
            bench.database.advance(seconds=LEASE_S)

            with pytest.raises((DataSetError, WrongStateError)):
                bench.upload_service().assemble(ALICE, upload.id)

            sweep_later(bench)
            assert bench.row(upload).state is UploadState.FAILED, interruption
            assert bench.store.names() == [], interruption
            assert used(bench) == (0, 0), interruption


class TestAbort:
    @pytest.mark.parametrize("missing", [[], [1], [0, 1, 2]])
    def test_aborting_deletes_the_chunks_and_frees_the_quota(self, bench, missing):
        upload = bench.open_upload(b"0123456789", missing=missing)

        aborted, n_objects = bench.upload_service().abort(ALICE, upload.id)

        assert (aborted.state, n_objects) == (UploadState.ABORTED, 3 - len(missing))
        assert (bench.store.names(), used(bench)) == ([], (0, 0))

    def test_aborting_twice_frees_once(self, bench):
        bench.open_upload(b"another one", fileName="other.bin")
        upload = bench.open_upload(b"0123456789")

        bench.upload_service().abort(ALICE, upload.id)
        again, n_objects = bench.upload_service().abort(ALICE, upload.id)

        assert (again.state, n_objects) == (UploadState.ABORTED, 0)
        assert used(bench) == (1, 11)

    def test_an_assembled_upload_cannot_be_aborted(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.upload_service().assemble(ALICE, upload.id)

        with pytest.raises(WrongStateError) as caught:
            bench.upload_service().abort(ALICE, upload.id)

        assert caught.value.details["state"] == "assembled"
        assert data_set_of(bench, upload) == b"0123456789"

    def test_an_upload_in_assembly_cannot_be_aborted(self, bench):
        upload = bench.open_upload(b"0123456789")
        InMemoryUploads(bench.database).claim(ALICE, upload.id, a_uuid(), LEASE_S)

        with pytest.raises(WrongStateError):
            bench.upload_service().abort(ALICE, upload.id)
        assert len(bench.store.names()) == 3

    def test_an_upload_of_somebody_else_is_none(self, bench):
        upload = bench.open_upload(b"0123456789")

        for upload_id in (upload.id, "no-uuid"):
            with pytest.raises(UploadNotFoundError):
                bench.upload_service().abort(BOB, upload_id)
        assert bench.row(upload).state is UploadState.OPEN

    def test_killed_at_any_call_and_called_again_it_ends_aborted_with_nothing_left(self):
        for interruption in every_interruption():
            bench = Bench()
            upload = bench.open_upload(TABLE)
            with suppress(Killed):
                TestInterruptedAssembly.interrupted(bench, interruption).abort(ALICE, upload.id)

            aborted, _ = bench.upload_service().abort(ALICE, upload.id)

            assert aborted.state is UploadState.ABORTED, interruption
            assert (bench.store.names(), used(bench)) == ([], (0, 0)), interruption


class TestSweep:
    def test_an_upload_that_was_silent_for_too_long_expires(self, bench):
        upload = bench.open_upload(b"0123456789", missing=[1])
        bench.database.advance(hours=25)

        sweep = bench.upload_service().sweep()

        assert (sweep.n_uploads, sweep.n_objects, sweep.freed_bytes, sweep.has_more) == (1, 2, 6, False)
        assert bench.row(upload).state is UploadState.EXPIRED
        assert (bench.store.names(), used(bench)) == ([], (0, 0))

    def test_an_upload_whose_client_is_alive_stays(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.database.advance(hours=23)
        bench.upload_service().sign_chunks(a_caller(), upload.id, [{"index": 0}])
        bench.database.advance(hours=23)

        assert bench.upload_service().sweep().n_uploads == 0
        assert bench.row(upload).state is UploadState.OPEN
        assert len(bench.store.names()) == 3

    def test_an_upload_under_a_live_lease_stays_however_old(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.database.advance(hours=1000)
        InMemoryUploads(bench.database).claim(ALICE, upload.id, a_uuid(), LEASE_S)

        assert bench.upload_service().sweep(max_age_hours=0).n_uploads == 0
        assert len(bench.store.names()) == 3

    def test_an_upload_whose_assembly_died_long_ago_expires(self, bench):
        upload = bench.open_upload(b"0123456789")
        InMemoryUploads(bench.database).claim(ALICE, upload.id, a_uuid(), LEASE_S)
        bench.database.advance(hours=25)

        assert bench.upload_service().sweep().n_uploads == 1
        assert bench.row(upload).state is UploadState.EXPIRED

    def test_a_dry_run_says_what_would_go_and_changes_nothing(self, bench):
        bench.open_upload(b"0123456789", missing=[1])
        bench.database.advance(hours=25)
        before = ({id_: replace(row) for id_, row in bench.database.uploads.items()}, contents_of(bench.store))

        dry = bench.upload_service().sweep(dry_run=True)

        assert (bench.database.uploads, contents_of(bench.store)) == before
        assert dry == bench.upload_service().sweep()

    def test_what_an_assembly_left_behind_goes_and_the_data_set_stays(self, bench):
        upload = bench.open_upload(TABLE)
        bench.upload_service().assemble(ALICE, upload.id)
        bench.database.uploads[upload.id].swept_at = None
        bench.store.write(chunk_name(upload.id, 0), b"late", "text/plain")
        bench.store.write(steps_prefix(upload.id) + "0-00000", b"late", "text/plain")

        sweep_later(bench)

        assert contents_of(bench.store) == {bench.row(upload).object_name: TABLE}

    def test_nothing_is_swept_twice(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.upload_service().abort(ALICE, upload.id)
        bench.open_upload(b"0123456789")
        bench.database.advance(hours=30)

        assert bench.upload_service().sweep().n_uploads == 1
        assert bench.upload_service().sweep().n_uploads == 0
        assert used(bench) == (0, 0)

    def test_a_run_is_bounded_and_says_that_there_is_more(self, bench):
        bench.open_session()
        for number in range(201):
            bench.upload_service().create(ALICE, upload_fields(fileName=f"{number}.bin"))
        bench.database.advance(hours=25)

        first, second, third = (bench.upload_service().sweep() for _ in range(3))

        assert (first.n_uploads, first.has_more) == (200, True)
        assert (second.n_uploads, second.has_more) == (1, False)
        assert third.n_uploads == 0

    def test_each_upload_that_is_cleaned_is_told_of_at_once(self, bench):
        expired = bench.open_upload(b"0123456789", missing=[1])
        assembled = bench.open_upload(TABLE, fileName="done.bin")
        bench.upload_service().assemble(ALICE, assembled.id)
        bench.database.advance(hours=25)
        told = []

        bench.upload_service().sweep(dry_run=True, on_swept=told.append)
        assert told == []

        bench.upload_service().sweep(on_swept=told.append)
        # The assembled one had left nothing behind.
        assert [(swept.upload.id, swept.n_objects, swept.freed_bytes) for swept in told] == [(expired.id, 2, 6)]

    def test_killed_at_any_call_and_run_again_it_has_told_of_every_upload(self):
        for interruption in every_interruption():
            bench = Bench()
            uploads = {bench.open_upload(TABLE, fileName=name).id for name in ("a.bin", "b.bin")}
            bench.database.advance(hours=25)
            told = []
            with suppress(Killed):
                TestInterruptedAssembly.interrupted(bench, interruption).sweep(on_swept=told.append)

            bench.upload_service().sweep(on_swept=told.append)

            assert {swept.upload.id for swept in told} == uploads, interruption

    def test_where_the_bucket_fails_the_run_breaks_off_and_the_next_one_goes_on(self, bench):
        class FailingStore(InMemoryObjectStore):
            n_calls = 0

            def delete(self, objects):
                self.n_calls += 1
                raise StorageUnavailableError

        for number in range(40):
            bench.open_upload(b"0123456789", fileName=f"{number}.bin")
        bench.database.advance(hours=25)
        store, failing = bench.store, FailingStore()
        failing._objects, failing._names = store._objects, store._names
        bench.store = failing

        with pytest.raises(StorageUnavailableError):
            bench.upload_service().sweep()
        assert failing.n_calls < 40
        assert used(bench) == (40, 400)

        bench.store = store
        assert bench.upload_service().sweep().n_uploads == 40
        assert (store.names(), used(bench)) == ([], (0, 0))

    @pytest.mark.parametrize("age", [-1, 8761, "24", 1.5, True, None])
    def test_an_age_that_is_not_allowed_is_refused(self, bench, age):
        bench.open_upload(b"0123456789")
        bench.database.advance(hours=10_000)

        with pytest.raises(InvalidFieldError, match=r"^maxAgeHours"):
            bench.upload_service().sweep(max_age_hours=age)
        assert len(bench.store.names()) == 3

    def test_killed_at_any_call_and_run_again_it_ends_expired_with_nothing_left(self):
        for interruption in every_interruption():
            bench = Bench()
            uploads = [bench.open_upload(TABLE, fileName=name) for name in ("a.bin", "b.bin")]
            bench.database.advance(hours=25)
            with suppress(Killed):
                TestInterruptedAssembly.interrupted(bench, interruption).sweep()

            bench.upload_service().sweep()

            assert {bench.row(upload).state for upload in uploads} == {UploadState.EXPIRED}, interruption
            assert (bench.store.names(), used(bench)) == ([], (0, 0)), interruption

    def test_a_client_that_comes_back_while_it_is_swept_is_refused(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.database.advance(hours=25)
        InMemoryUploads(bench.database).begin_sweep(max_age_hours=24, limit=10, dry_run=False)

        with pytest.raises(WrongStateError):
            bench.upload_service().assemble(ALICE, upload.id)
        with pytest.raises(WrongStateError):
            bench.upload_service().sign_chunks(a_caller(), upload.id, [{"index": 0}])


class TestFinalize:
    def test_the_rows_of_all_tables_are_summed_up(self, bench):
        for name in ("a.csv", "b.csv", "notes.bin"):
            upload = bench.open_upload(TABLE, fileName=name)
            bench.upload_service().assemble(ALICE, upload.id)

        session = bench.upload_service().finalize_session(a_caller(), "weather")

        assert (session.status, session.n_dat) == ("finalized", 64)

    def test_finalizing_twice_gives_the_same_session(self, bench):
        bench.open_session()

        first = bench.upload_service().finalize_session(a_caller(), "weather")
        second = bench.upload_service().finalize_session(a_caller(), "weather")

        assert first == second
        assert first.n_dat == 0

    def test_unfinished_uploads_are_named(self, bench):
        open_one = bench.open_upload(b"0123456789", fileName="open.bin")
        failed = bench.open_upload(b"\x89PNG", fileName="failed.csv")
        with pytest.raises(DataSetError):
            bench.upload_service().assemble(ALICE, failed.id)

        with pytest.raises(UploadsUnfinishedError) as caught:
            bench.upload_service().finalize_session(a_caller(), "weather")

        assert caught.value.details["uploads"] == [
            {"uploadId": open_one.id, "fileName": "open.bin", "state": "open"},
            {"uploadId": failed.id, "fileName": "failed.csv", "state": "failed"},
        ]
        assert InMemorySessions(bench.database).get(a_caller(), "weather").status == "uploading"

    def test_an_aborted_upload_is_no_obstacle(self, bench):
        upload = bench.open_upload(b"0123456789")
        bench.upload_service().abort(ALICE, upload.id)

        assert bench.upload_service().finalize_session(a_caller(), "weather").status == "finalized"

    def test_a_finalized_session_takes_no_more_uploads(self, bench):
        bench.open_session()
        bench.upload_service().finalize_session(a_caller(), "weather")

        with pytest.raises(SessionFinalizedError):
            bench.upload_service().create(ALICE, upload_fields())

    def test_a_session_of_somebody_else_is_none(self, bench):
        bench.open_session()

        with pytest.raises(SessionNotFoundError):
            bench.upload_service().finalize_session(a_caller(BOB), "weather")

    @pytest.mark.parametrize("name", ["../x", "", None, 5, "a" * 129])
    def test_a_name_that_is_not_allowed_is_refused(self, bench, name):
        with pytest.raises(InvalidFieldError, match=r"^sessionId"):
            bench.upload_service().finalize_session(a_caller(), name)


class TestLegacyChunks:
    @staticmethod
    def chunk(index: Any = 0, total_chunks: Any = 3, **fields: Any) -> LegacyChunk:
        return LegacyChunk(
            **{"session_id": "weather", "file_name": "hours.csv"} | fields, index=index, total_chunks=total_chunks
        )

    def test_the_last_chunk_assembles_the_file_in_whatever_order_they_come(self, bench):
        bench.open_session()
        service = bench.upload_service()
        parts = {2: b"5,6\n", 0: b"a,b\n1", 1: b",2\n3,4\n"}

        states = [service.store_legacy_chunk(ALICE, self.chunk(index), parts[index]) for index in (2, 0, 1)]

        assert [n_received for _, n_received in states] == [1, 2, 3]
        assembled = states[-1][0]
        assert (assembled.state, assembled.n_rows) == (UploadState.ASSEMBLED, 3)
        assert contents_of(bench.store) == {assembled.object_name: b"a,b\n1,2\n3,4\n5,6\n"}
        assert used(bench) == (1, 16)

    def test_every_chunk_keeps_the_upload_alive(self, bench):
        bench.open_session()
        service = bench.upload_service()
        service.store_legacy_chunk(ALICE, self.chunk(0), b"a,b\n")
        bench.database.advance(hours=20)
        service.store_legacy_chunk(ALICE, self.chunk(1), b"1,2\n")
        bench.database.advance(hours=20)

        service.sweep()
        assembled, _ = service.store_legacy_chunk(ALICE, self.chunk(2), b"3,4\n")

        assert (assembled.state, assembled.n_rows) == (UploadState.ASSEMBLED, 2)

    def test_a_chunk_that_comes_again_while_the_file_is_assembled_is_not_stored(self, bench):
        bench.open_session()
        service = bench.upload_service()
        upload, _ = service.store_legacy_chunk(ALICE, self.chunk(0), b"a,b\n")
        InMemoryUploads(bench.database).claim(ALICE, upload.id, a_uuid(), LEASE_S)

        again, _ = service.store_legacy_chunk(ALICE, self.chunk(1), b"1,2\n")

        assert again.state is UploadState.ASSEMBLING
        assert list(contents_of(bench.store)) == [chunk_name(upload.id, 0)]

    def test_a_chunk_sent_again_changes_nothing(self, bench):
        bench.open_session()
        service = bench.upload_service()
        first, _ = service.store_legacy_chunk(ALICE, self.chunk(0), b"a,b\n")

        again, n_received = service.store_legacy_chunk(ALICE, self.chunk(0), b"a,b\n")

        assert (again.id, n_received) == (first.id, 1)
        assert used(bench)[0] == 1

    def test_a_chunk_sent_again_with_other_bytes_is_refused(self, bench):
        bench.open_session()
        upload, _ = bench.upload_service().store_legacy_chunk(ALICE, self.chunk(0), b"a,b\n")

        with pytest.raises(ChunkMismatchError) as caught:
            bench.upload_service().store_legacy_chunk(ALICE, self.chunk(0), b"a,c\n")

        assert caught.value.details == {"index": 0}
        assert contents_of(bench.store) == {chunk_name(upload.id, 0): b"a,b\n"}

    def test_a_chunk_sent_again_after_assembly_is_answered_as_done(self, bench):
        bench.open_session()
        service = bench.upload_service()
        service.store_legacy_chunk(ALICE, self.chunk(0, 1), b"a,b\n1,2\n")

        upload, n_received = service.store_legacy_chunk(ALICE, self.chunk(0, 1), b"a,b\n1,2\n")

        assert (upload.state, n_received) == (UploadState.ASSEMBLED, 1)
        assert len(bench.store.names()) == 1

    def test_another_number_of_chunks_is_another_file_and_refused(self, bench):
        bench.open_session()
        bench.upload_service().store_legacy_chunk(ALICE, self.chunk(0, 3), b"a,b\n")

        with pytest.raises(FileExistsInSessionError):
            bench.upload_service().store_legacy_chunk(ALICE, self.chunk(0, 2), b"a,b\n")

    def test_a_chunk_larger_than_31_mib_is_refused(self, bench):
        bench.open_session()

        with pytest.raises(TooLargeError):
            bench.upload_service().store_legacy_chunk(ALICE, self.chunk(), bytes(LARGEST_LEGACY_CHUNK_BYTES + 1))
        assert bench.database.uploads == {}

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"index": -1}, "chunkIndex"),
            ({"index": 3}, "chunkIndex"),
            ({"index": "0"}, "chunkIndex"),
            ({"index": None}, "chunkIndex"),
            ({"total_chunks": 0}, "totalChunks"),
            ({"total_chunks": 1025}, "totalChunks"),
            ({"total_chunks": None}, "totalChunks"),
            ({"total_chunks": 2.0}, "totalChunks"),
            ({"session_id": None}, "sessionId"),
            ({"session_id": "../x"}, "sessionId"),
            ({"file_name": "/etc/passwd"}, "fileName"),
            ({"file_name": None}, "fileName"),
        ],
    )
    def test_a_field_that_is_not_allowed_is_named_and_nothing_is_stored(self, bench, fields, field):
        bench.open_session()

        with pytest.raises(InvalidFieldError) as caught:
            bench.upload_service().store_legacy_chunk(ALICE, self.chunk(**fields), b"a,b\n")

        assert caught.value.details["field"] == field
        assert (bench.database.uploads, bench.store.names()) == ({}, [])

    def test_a_signed_chunk_may_have_any_size_and_finalizing_assembles_the_file(self, bench):
        bench.open_session()
        service = bench.upload_service()
        for index, content in enumerate([b"a,b\n1,2\n", b"3,4\n"]):
            _, chunk = service.sign_legacy_chunk(ALICE, self.chunk(index, 2))
            assert bench.send(chunk, content) == 200

        session = service.finalize_session(a_caller(), "weather")

        assert (session.status, session.n_dat) == ("finalized", 2)
        assert used(bench) == (1, 12)

    def test_finalizing_names_a_file_of_which_chunks_are_missing(self, bench):
        bench.open_session()
        upload, _ = bench.upload_service().store_legacy_chunk(ALICE, self.chunk(0, 2), b"a,b\n")

        with pytest.raises(UploadsUnfinishedError) as caught:
            bench.upload_service().finalize_session(a_caller(), "weather")

        assert caught.value.details["uploads"] == [{"uploadId": upload.id, "fileName": "hours.csv", "state": "open"}]

    def test_killed_at_any_call_and_sent_again_the_last_chunk_assembles_the_file(self):
        for interruption in every_interruption():
            bench = Bench()
            bench.open_session()
            bench.upload_service().store_legacy_chunk(ALICE, self.chunk(0, 2), b"a,b\n")
            service = TestInterruptedAssembly.interrupted(bench, interruption)
            with suppress(Killed):
                service.store_legacy_chunk(ALICE, self.chunk(1, 2), b"1,2\n")
            bench.database.advance(seconds=LEASE_S)

            upload, n_received = bench.upload_service().store_legacy_chunk(ALICE, self.chunk(1, 2), b"1,2\n")

            assert (upload.state, upload.n_rows, n_received) == (UploadState.ASSEMBLED, 1, 2), interruption
            sweep_later(bench)
            assert contents_of(bench.store) == {upload.object_name: b"a,b\n1,2\n"}, interruption
            assert used(bench) == (1, 8), interruption


def test_chunk_names_sort_as_their_indices_do(bench):
    upload = bench.open_upload(some_bytes(1024 * CHUNK_BYTES))

    names = [stored.name for stored in bench.store.list(chunks_prefix(upload.id))]

    assert names == [chunk_name(upload.id, index) for index in range(1024)]
    assert b"".join(chunk_of(some_bytes(1024 * CHUNK_BYTES), upload, index) for index in range(1024)) == some_bytes(
        1024 * CHUNK_BYTES
    )

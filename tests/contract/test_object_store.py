"""What every `ObjectStore` does, in memory and on a server of Cloud Storage's JSON API.

The server is the one that STORAGE_EMULATOR_HOST names, and may be any: the suite makes a bucket of its own and asks
only for what Cloud Storage promises. Where that is the bare emulator of the local stack, which ignores preconditions,
the suite goes through the stack's strict door, as the functions do (STORAGE_INTERNAL_URL).
"""

import gc
import io
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from google.api_core.exceptions import BadRequest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.home import read_env
from shared.adapters.gcs import GcsObjectStore
from shared.checksums import combine_crc32c
from shared.errors import ObjectExistsError, ObjectNotFoundError, StorageUnavailableError
from shared.ports import ObjectStore
from shared.records.objects import StoredObject
from tests.factories import some_bytes
from tests.fakes.objects import InMemoryObjectStore, crc32c_of

BINARY = "application/octet-stream"
MIB = 1 << 20
NAMES = [
    "plain",
    "with spaces and a plus +",
    "größe/資料/😀.csv",
    "50%25.csv",
    "a%2Fb",
    'quote\'s and "quotes"',
    "question?mark#hash",
    "semicolon;equals=ampersand&",
    "trailing.",
    "deep/er/and/deeper",
    "back\\slash",
    "[brackets]{braces}*",
]


def server() -> str:
    host = os.environ.get("STORAGE_EMULATOR_HOST")
    if not host:
        pytest.fail(
            "This test needs a server of the Cloud Storage JSON API: name it in STORAGE_EMULATOR_HOST, or `make test`.",
            pytrace=False,
        )
    door, key_file = os.environ.get("STORAGE_INTERNAL_URL"), os.environ.get("SIGNER_KEY_FILE")
    if not door or not key_file:
        return host
    # keys/signer.json and env lie in the home of the stack whose settings these are.
    env_file = Path(key_file).parent.parent / "env"
    is_bare = env_file.exists() and read_env(env_file).get("STORAGE_EMULATOR_HOST") == host
    return door if is_bare else host


@pytest.fixture(scope="module")
def server_store() -> Iterator[GcsObjectStore]:
    host, bucket = server(), f"contract-{uuid.uuid4().hex}"
    answer = httpx.post(f"{host}/storage/v1/b", params={"project": "test"}, json={"name": bucket}, trust_env=False)
    answer.raise_for_status()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", host)
        yield GcsObjectStore(bucket)


@pytest.fixture(params=["memory", "gcs"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return InMemoryObjectStore() if request.param == "memory" else request.getfixturevalue("server_store")


@pytest.fixture
def prefix() -> str:
    """Return a prefix that no other test uses."""
    return f"{uuid.uuid4()}/"


def content_of(store: ObjectStore, name: str) -> bytes:
    return b"".join(store.read(name))


def facts(stored: StoredObject) -> tuple[str, int, int, str]:
    return (stored.name, stored.generation, stored.size_bytes, stored.crc32c)


def parts(store: ObjectStore, prefix: str, contents: list[bytes]) -> list[StoredObject]:
    return [store.write(f"{prefix}{index:05d}", content, BINARY) for index, content in enumerate(contents)]


class TestWriting:
    # Of nothing, of less than one request carries, and of two requests and a half.
    @pytest.mark.parametrize("n_bytes", [0, 5, 20 * MIB + 3])
    def test_an_object_has_what_was_written_piece_by_piece(self, store, prefix, n_bytes):
        content = some_bytes(n_bytes)
        with store.writing(f"{prefix}a", BINARY) as file:
            for at in range(0, n_bytes, MIB):
                file.write(content[at : at + MIB])
            assert store.list(prefix) == []

        assert content_of(store, f"{prefix}a") == content
        assert store.stat(f"{prefix}a").crc32c == crc32c_of(content)

    def test_a_block_that_raises_leaves_no_object(self, store, prefix):
        def interrupted() -> None:
            with store.writing(f"{prefix}a", BINARY) as file:
                file.write(some_bytes(9 * MIB))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        gc.collect()
        assert store.list(prefix) == []

    def test_an_object_that_is_there_stays(self, store, prefix):
        store.write(f"{prefix}a", b"first", BINARY)
        with pytest.raises(ObjectExistsError), store.writing(f"{prefix}a", BINARY) as file:
            file.write(b"second")

        assert content_of(store, f"{prefix}a") == b"first"


class TestWrite:
    @pytest.mark.parametrize("content", [b"", b"x", some_bytes(3 * MIB + 7)], ids=len)
    def test_an_object_has_the_bytes_written_and_their_checksum(self, store, prefix, content):
        stored = store.write(f"{prefix}a", content, BINARY)

        assert (stored.name, stored.size_bytes, stored.crc32c) == (f"{prefix}a", len(content), crc32c_of(content))
        assert stored.generation > 0
        assert content_of(store, stored.name) == content

    def test_a_second_write_is_refused_and_changes_nothing(self, store, prefix):
        first = store.write(f"{prefix}a", b"first", BINARY)

        with pytest.raises(ObjectExistsError):
            store.write(f"{prefix}a", b"second", BINARY)

        assert facts(store.stat(first.name)) == facts(first)
        assert content_of(store, first.name) == b"first"

    @pytest.mark.parametrize("content", [b"", some_bytes(2 * MIB + 1)], ids=len)
    def test_a_file_is_written_as_well_as_bytes(self, store, prefix, content):
        stored = store.write(f"{prefix}a", io.BytesIO(content), BINARY)

        assert (stored.size_bytes, stored.crc32c) == (len(content), crc32c_of(content))
        assert content_of(store, stored.name) == content

    def test_a_file_is_not_written_over_an_object_either(self, store, prefix):
        store.write(f"{prefix}a", b"first", BINARY)

        with pytest.raises(ObjectExistsError):
            store.write(f"{prefix}a", io.BytesIO(b"second"), BINARY)
        assert content_of(store, f"{prefix}a") == b"first"

    @pytest.mark.parametrize("name", NAMES)
    def test_an_object_of_any_name_is_found_again(self, store, prefix, name):
        stored = store.write(prefix + name, b"content", BINARY)

        assert stored.name == prefix + name
        assert facts(store.stat(prefix + name)) == facts(stored)
        assert content_of(store, prefix + name) == b"content"
        assert [found.name for found in store.list(prefix)] == [prefix + name]
        assert store.delete([stored]) == 1
        assert store.list(prefix) == []

    def test_the_last_part_of_a_name_may_have_230_bytes(self, store, prefix):
        """The longest file name that shared/fields.py lets through; Cloud Storage takes 1,024 bytes in all."""
        name = prefix + "é" * 115

        assert store.write(name, b"x", BINARY).name == name
        assert [found.name for found in store.list(prefix)] == [name]

    def test_of_eight_writers_at_once_one_writes(self, store, prefix):
        def write(number: int) -> bool:
            try:
                store.write(f"{prefix}a", b"%d" % number, BINARY)
            except ObjectExistsError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(write, range(8)))

        assert sum(outcomes) == 1
        assert content_of(store, f"{prefix}a") == b"%d" % outcomes.index(True)


class TestList:
    def test_objects_come_in_the_order_of_their_names(self, store, prefix):
        names = [f"{prefix}{name}" for name in ("b", "a", "é", "Z", "x/b", "x/a", "00010", "00009", "a.b")]
        for name in names:
            store.write(name, b"", BINARY)

        assert [stored.name for stored in store.list(prefix)] == sorted(names)

    def test_only_objects_below_the_prefix_are_listed(self, store, prefix):
        store.write(f"{prefix}x/1", b"", BINARY)
        store.write(f"{prefix}xy", b"", BINARY)
        store.write(f"{prefix}y", b"", BINARY)

        assert [stored.name for stored in store.list(f"{prefix}x/")] == [f"{prefix}x/1"]
        assert len(store.list(f"{prefix}x")) == 2

    def test_what_is_listed_is_what_was_written(self, store, prefix):
        written = parts(store, prefix, [b"", b"one", b"three"])

        assert [facts(stored) for stored in store.list(prefix)] == [facts(stored) for stored in written]

    def test_an_unused_prefix_holds_nothing(self, store, prefix):
        assert store.list(prefix) == []

    def test_more_objects_than_fit_on_one_page_are_all_listed(self, store, prefix):
        names = [f"{prefix}{index:05d}" for index in range(1001)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: store.write(name, b"", BINARY), names))

        assert [stored.name for stored in store.list(prefix)] == names


class TestStat:
    def test_an_object_is_described_as_it_was_when_written(self, store, prefix):
        written = store.write(f"{prefix}a", b"content", BINARY)

        assert facts(store.stat(written.name)) == facts(written)

    def test_a_missing_object_is_not_found(self, store, prefix):
        with pytest.raises(ObjectNotFoundError):
            store.stat(f"{prefix}a")


class TestCompose:
    @pytest.mark.parametrize("n_sources", [1, 2, 32])
    def test_the_result_is_its_sources_in_order(self, store, prefix, n_sources):
        contents = [some_bytes(1000 + index, seed=index) for index in range(n_sources)]
        sources = parts(store, prefix, contents)

        stored = store.compose(sources, f"{prefix}whole", "text/csv")

        assert (stored.name, stored.size_bytes) == (f"{prefix}whole", sum(map(len, contents)))
        assert stored.crc32c == combine_crc32c((source.crc32c, source.size_bytes) for source in sources)
        assert content_of(store, stored.name) == b"".join(contents)
        assert facts(store.stat(stored.name)) == facts(stored)

    def test_sources_stay_as_they_are(self, store, prefix):
        sources = parts(store, prefix, [b"a", b"b"])

        store.compose(sources, f"{prefix}whole", BINARY)

        assert [facts(store.stat(source.name)) for source in sources] == [facts(source) for source in sources]

    def test_the_order_is_that_of_the_call(self, store, prefix):
        first, second = parts(store, prefix, [b"a", b"b"])

        stored = store.compose([second, first], f"{prefix}whole", BINARY)

        assert content_of(store, stored.name) == b"ba"

    def test_empty_sources_add_nothing(self, store, prefix):
        sources = parts(store, prefix, [b"", b"a", b""])

        stored = store.compose(sources, f"{prefix}whole", BINARY)

        assert (content_of(store, stored.name), stored.crc32c) == (b"a", crc32c_of(b"a"))

    def test_a_composed_object_may_be_a_source(self, store, prefix):
        sources = parts(store, prefix, [b"a", b"b", b"c"])
        step = store.compose(sources[:2], f"{prefix}step", BINARY)

        stored = store.compose([step, sources[2]], f"{prefix}whole", BINARY)

        assert content_of(store, stored.name) == b"abc"

    def test_an_existing_destination_is_refused_and_stays(self, store, prefix):
        sources = parts(store, prefix, [b"a", b"b"])
        first = store.compose(sources, f"{prefix}whole", BINARY)

        with pytest.raises(ObjectExistsError):
            store.compose(sources[::-1], f"{prefix}whole", BINARY)

        assert facts(store.stat(first.name)) == facts(first)
        assert content_of(store, first.name) == b"ab"

    def test_a_source_of_another_generation_is_refused(self, store, prefix):
        """Not found, or the precondition fails: both are said of a generation that is not there (any more)."""
        first, second = parts(store, prefix, [b"a", b"b"])
        store.delete([second])
        replaced = store.write(second.name, b"other", BINARY)

        with pytest.raises((ObjectNotFoundError, ObjectExistsError)):
            store.compose([first, second], f"{prefix}whole", BINARY)

        with pytest.raises(ObjectNotFoundError):
            store.stat(f"{prefix}whole")
        assert replaced.generation != second.generation

    def test_a_missing_source_is_not_found(self, store, prefix):
        first, second = parts(store, prefix, [b"a", b"b"])
        store.delete([second])

        with pytest.raises(ObjectNotFoundError):
            store.compose([first, second], f"{prefix}whole", BINARY)
        with pytest.raises(ObjectNotFoundError):
            store.stat(f"{prefix}whole")

    @pytest.mark.parametrize("n_sources", [0, 33])
    def test_no_sources_or_more_than_32_are_refused(self, store, prefix, n_sources):
        sources = parts(store, prefix, [b"x"] * n_sources)

        with pytest.raises((ValueError, BadRequest)):
            store.compose(sources, f"{prefix}whole", BINARY)
        with pytest.raises(ObjectNotFoundError):
            store.stat(f"{prefix}whole")

    def test_of_four_composers_at_once_one_composes(self, store, prefix):
        sources = parts(store, prefix, [b"a", b"b"])

        def compose(_: int) -> bool:
            try:
                store.compose(sources, f"{prefix}whole", BINARY)
            except ObjectExistsError:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(compose, range(4))) == 1
        assert content_of(store, f"{prefix}whole") == b"ab"


class TestRead:
    def test_a_large_object_comes_in_pieces_of_a_mebibyte_at_most(self, store, prefix):
        content = some_bytes(3 * MIB + 7)
        store.write(f"{prefix}a", content, BINARY)

        pieces = list(store.read(f"{prefix}a"))

        assert b"".join(pieces) == content
        assert all(0 < len(piece) <= MIB for piece in pieces)

    @pytest.mark.parametrize("start", [0, 1, 6, 7, 8])
    def test_reading_may_begin_anywhere(self, store, prefix, start):
        store.write(f"{prefix}a", b"content", BINARY)

        assert b"".join(store.read(f"{prefix}a", start=start)) == b"content"[start:]

    @pytest.mark.parametrize("start", [0, 1])
    def test_an_empty_object_has_nothing_to_read(self, store, prefix, start):
        store.write(f"{prefix}a", b"", BINARY)

        assert list(store.read(f"{prefix}a", start=start)) == []

    def test_a_generation_is_read_as_long_as_it_is_there(self, store, prefix):
        old = store.write(f"{prefix}a", b"old", BINARY)
        assert b"".join(store.read(old.name, generation=old.generation)) == b"old"
        store.delete([old])
        new = store.write(old.name, b"new", BINARY)

        assert b"".join(store.read(new.name, generation=new.generation)) == b"new"
        with pytest.raises(ObjectNotFoundError):
            list(store.read(old.name, generation=old.generation))

    def test_a_missing_object_is_not_found(self, store, prefix):
        with pytest.raises(ObjectNotFoundError):
            list(store.read(f"{prefix}a"))

    def test_reading_may_be_broken_off(self, store, prefix):
        store.write(f"{prefix}a", some_bytes(3 * MIB), BINARY)
        pieces = store.read(f"{prefix}a")

        assert next(pieces) == some_bytes(3 * MIB)[:MIB]
        assert isinstance(pieces, Iterator)
        pieces.close()

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(size=st.integers(0, 5000), start=st.integers(0, 6000))
    def test_any_part_of_any_object_is_its_end(self, store, size, start):
        name = f"{uuid.uuid4()}/a"
        store.write(name, some_bytes(size), BINARY)

        assert b"".join(store.read(name, start=start)) == some_bytes(size)[start:]


class TestDelete:
    @pytest.mark.parametrize("n_objects", [1, 39, 101])
    def test_objects_are_deleted_and_counted(self, store, prefix, n_objects):
        written = parts(store, prefix, [b"a"] * (n_objects + 1))

        assert store.delete(written[:n_objects]) == n_objects
        assert [stored.name for stored in store.list(prefix)] == [written[n_objects].name]

    def test_what_is_gone_is_not_counted(self, store, prefix):
        written = parts(store, prefix, [b"a", b"b"])
        store.delete(written[:1])

        assert store.delete(written) == 1
        assert store.delete(written) == 0
        assert store.delete([]) == 0

    def test_another_generation_stays(self, store, prefix):
        old = store.write(f"{prefix}a", b"old", BINARY)
        store.delete([old])
        new = store.write(old.name, b"new", BINARY)

        assert store.delete([old, replace(new, generation=new.generation + 1)]) == 0
        assert content_of(store, new.name) == b"new"

    def test_a_name_is_free_again_and_its_next_generation_is_another(self, store, prefix):
        old = store.write(f"{prefix}a", b"same", BINARY)
        store.delete([old])

        assert store.write(old.name, b"same", BINARY).generation != old.generation


def test_a_server_that_does_not_answer_is_unavailable(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr("shared.adapters.gcs.RETRY_DEADLINE_S", 0.1)
    store = GcsObjectStore("nowhere")
    some = StoredObject("a", 1, 1, "AAAAAA==")

    for call in (
        lambda: store.list("a"),
        lambda: store.stat("a"),
        lambda: store.write("a", b"", BINARY),
        lambda: store.compose([some], "b", BINARY),
        lambda: list(store.read("a")),
        lambda: store.delete([some]),
    ):
        with pytest.raises(StorageUnavailableError):
            call()

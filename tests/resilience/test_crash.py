"""Every function of the upload protocol, killed at every remote call it makes, before the call and after its effect.

The points are not listed anywhere: a first run without accident counts the calls, and there are two points for each.
After each death, in one half of the runs the same request is made again, as a client does; in the other half nobody
comes back. Then cleanup runs, and rows, objects and counters must fit each other and the story.

TRAINSHED_EVERY_CRASH=1 tries every point of every story: 44 minutes on two cores with eight times their work, and in
parts by the names of stories (`-k "delete and repeated"`). Without it, long stories are killed at every fifth point or
so, always the same ones; creating, signing, assembling three chunks and finalizing are killed at every one, and every
third is abandoned.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from shared.records.objects import data_sets_prefix
from shared.records.uploads import Upload
from tests.resilience.processes import CHUNK_BYTES, Outcome, Request
from tests.resilience.world import SESSION, World, a_csv, dying

THREE_CHUNKS = a_csv(2 * CHUNK_BYTES + 100)
FORTY_CHUNKS = bytes(i * 31 % 251 for i in range(39 * CHUNK_BYTES + 17))
BROKEN = b'hour,value\n1,2\n3,"never closed\n'
N_ROWS = THREE_CHUNKS.count(b"\n") - 1 + (not THREE_CHUNKS.endswith(b"\n"))
EVERY_POINT = bool(os.environ.get("TRAINSHED_EVERY_CRASH"))


@dataclass(frozen=True)
class Story:
    """A request, what precedes it, and what must be true in the end.

    Attributes:
        prepare: Sets the scene and returns the request.
        repeated: What the same request answers after the accident: allowed statuses.
        ends: Checks the end of a story whose request was repeated; given the repetition's outcome.
        abandoned: Checks the end of a story that nobody took up again.
        least_calls: The request makes at least so many remote calls, or the story proves nothing.
        step: Where not every point is tried, the distance from one to the next; odd, so that both kinds come.
    """

    prepare: Callable[[World], Request]
    repeated: set[int]
    ends: Callable[[World, Outcome], None]
    abandoned: Callable[[World], None]
    least_calls: int
    step: int = 1


def points(n_calls: int, step: int) -> Iterator[tuple[int, bool]]:
    every = [(at, is_after) for at in range(1, n_calls + 1) for is_after in (False, True)]
    yield from every[:: 1 if EVERY_POINT else step]


def only_upload(world: World, state: str, **expected: Any) -> None:
    """There is one upload, in this state."""
    rows = world.rows()
    assert [row["state"] for row in rows] == [state]
    for name, value in expected.items():
        assert rows[0][name] == value


def assembled(content: bytes, n_rows: int | None) -> Callable[..., None]:
    def check(world: World, *_: Outcome) -> None:
        only_upload(world, "assembled", n_rows=n_rows, size_bytes=len(content))
        assert world.content(world.rows()[0]) == content
        assert world.usage() == (1, len(content))

    return check


def expired_or(check: Callable[[World], None]) -> Callable[[World], None]:
    """The request had its effect before the accident, or the upload has expired and gave everything back."""

    def ended(world: World) -> None:
        if [row["state"] for row in world.rows()] == ["expired"]:
            assert world.usage() == (0, 0)
            assert world.names(data_sets_prefix(world.rows()[0]["session_uuid"])) == []
        else:
            check(world)

    return ended


def nothing_used(world: World, *_: Outcome) -> None:
    assert world.usage() == (0, 0)
    assert {row["state"] for row in world.rows()} <= {"aborted", "expired", "failed"}
    assert [name for row in world.rows() for name in world.names(data_sets_prefix(row["session_uuid"]))] == []


def assemble(content: bytes, name: str, **fields: Any) -> Callable[[World], Request]:
    def prepare(world: World) -> Request:
        upload = world.open_upload(content, name, **fields)
        return world.request("POST", f"/uploads/{upload.id}/assemble")

    return prepare


def create(world: World) -> Request:
    world.open_session()
    return world.request("POST", "/uploads", {"sessionId": SESSION, "fileName": "hours.csv", "size": len(THREE_CHUNKS)})


def created(world: World, outcome: Outcome) -> None:
    # The cleanup of every story has swept it by now: it was one, and its quota came back once.
    only_upload(world, "expired")
    assert world.rows()[0]["id"] == outcome.data["uploadId"]
    assert len(outcome.data["chunks"]) == 3
    assert world.usage() == (0, 0)


def sign(world: World) -> Request:
    upload = world.open_upload(THREE_CHUNKS, sent=[0])
    return world.request("POST", f"/uploads/{upload.id}/chunks", {"chunks": [{"index": 1}, {"index": 2}]})


def signed(world: World, outcome: Outcome) -> None:
    assert [chunk["index"] for chunk in outcome.data["chunks"]] == [1, 2]
    only_upload(world, "expired")


def abort(world: World) -> Request:
    upload = world.open_upload(THREE_CHUNKS)
    return world.request("POST", f"/uploads/{upload.id}/abort")


def aborted(world: World, outcome: Outcome) -> None:
    only_upload(world, "aborted")
    nothing_used(world)


def declare_wrongly(world: World) -> Request:
    upload = world.open_upload(THREE_CHUNKS, sha256=hashlib.sha256(b"another file").hexdigest())
    return world.request("POST", f"/uploads/{upload.id}/assemble")


def refused(code: str) -> Callable[[World, Outcome], None]:
    def check(world: World, outcome: Outcome) -> None:
        assert outcome.document["code"] in {code, "wrong_state"}
        nothing_used(world)

    return check


def finalize(world: World) -> Request:
    upload = world.open_upload(THREE_CHUNKS)
    world.services.uploads.assemble(world.caller.user_id, upload.id)
    return world.request("POST", "/finalize-session", {"sessionId": SESSION})


def finalize_legacy(world: World) -> Request:
    upload = legacy_chunks(world, [0, 1])
    # Its chunks came straight into the bucket, so nobody has assembled it yet.
    assert world.row(upload)["state"] == "open"
    return world.request("POST", "/finalize-session", {"sessionId": SESSION})


def finalized(world: World, *_: Outcome) -> None:
    assembled(THREE_CHUNKS, N_ROWS)(world)
    (session,) = world.sessions()
    assert (session["status"], session["n_dat"]) == ("finalized", N_ROWS)


def finalized_or_not(world: World) -> None:
    (session,) = world.sessions()
    assert (session["status"], session["n_dat"]) in {("finalized", N_ROWS), ("uploading", None)}
    expired_or(assembled(THREE_CHUNKS, N_ROWS))(world)


LEGACY_PARTS = [THREE_CHUNKS[:300], THREE_CHUNKS[300:]]


def legacy(index: int) -> dict[str, Any]:
    return {"sessionId": SESSION, "fileName": "hours.csv", "chunkIndex": index, "totalChunks": len(LEGACY_PARTS)}


def legacy_chunks(world: World, sent: list[int]) -> Upload:
    """Open an upload of an old client and put chunks into the bucket, where it would have put them itself."""
    world.open_session()
    answer = world.send(world.request("POST", "/upload-chunk", legacy(0)))
    upload = world.services.upload_rows.get(world.caller, answer.data["upload_id"])
    for index in sent:
        name = f"chunks/{upload.id}/{index:05d}"
        world.services.store.write(name, LEGACY_PARTS[index], "application/octet-stream")
    return upload


def last_legacy_chunk(world: World) -> Request:
    legacy_chunks(world, [0])
    return world.request("POST", "/upload-chunk", form=(LEGACY_PARTS[1], legacy(1)))


def clean(world: World) -> Request:
    world.open_upload(THREE_CHUNKS, "abandoned.csv")
    given_up = world.open_upload(THREE_CHUNKS, "given up.csv")
    world.services.upload_rows.abort(world.caller.user_id, given_up.id)
    kept = world.open_upload(THREE_CHUNKS, "kept.csv")
    world.services.uploads.assemble(world.caller.user_id, kept.id)
    return world.cleanup_request()


def cleaned(world: World, *_: Outcome) -> None:
    assert {row["file_name"]: row["state"] for row in world.rows()} == {
        "abandoned.csv": "expired",
        "given up.csv": "aborted",
        "kept.csv": "assembled",
    }
    assert world.usage() == (1, len(THREE_CHUNKS))


def delete(world: World) -> Request:
    kept = world.open_upload(THREE_CHUNKS, "kept.csv")
    world.services.uploads.assemble(world.caller.user_id, kept.id)
    world.note(kept)
    world.note(world.open_upload(THREE_CHUNKS, "under way.csv"))
    return world.request("POST", f"/session/{SESSION}/delete")


def deleted(world: World, *_: Outcome) -> None:
    assert world.sessions() == []
    world.check(deleted_units=1)
    # The unit that its one file cost stays used; no byte does.
    assert world.usage() == (1, 0)


def deleted_or_not_begun(world: World) -> None:
    if world.sessions():
        assert {row["file_name"]: row["state"] for row in world.rows()} == {
            "kept.csv": "assembled",
            "under way.csv": "expired",
        }
        assert world.usage() == (1, len(THREE_CHUNKS))
    else:
        deleted(world)


def begin_deletion(world: World) -> Request:
    delete(world)
    world.services.session_rows.begin_delete(world.caller.user_id, SESSION)
    return world.cleanup_request()


csv_assembled = assembled(THREE_CHUNKS, N_ROWS)
forty_assembled = assembled(FORTY_CHUNKS, None)
empty_assembled = assembled(b"", None)
SHA256 = hashlib.sha256(THREE_CHUNKS).hexdigest()

STORIES = {
    "create": Story(create, {200, 201}, created, expired_or(nothing_used), 2),
    "sign": Story(sign, {200}, signed, nothing_used, 3),
    "assemble a table": Story(
        assemble(THREE_CHUNKS, "hours.csv", sha256=SHA256), {200}, csv_assembled, expired_or(csv_assembled), 9
    ),
    "assemble 40 chunks": Story(
        assemble(FORTY_CHUNKS, "hours.bin"),
        {200},
        forty_assembled,
        expired_or(forty_assembled),
        11,
        step=3,
    ),
    "assemble nothing": Story(
        assemble(b"", "hours.bin"), {200}, empty_assembled, expired_or(empty_assembled), 5, step=3
    ),
    "assemble a broken table": Story(
        assemble(BROKEN, "hours.csv"), {422, 409}, refused("data_set_invalid"), nothing_used, 6, step=5
    ),
    "assemble another file than declared": Story(
        declare_wrongly, {409}, refused("checksum_mismatch"), nothing_used, 5, step=5
    ),
    "send the last chunk the old way": Story(
        last_legacy_chunk, {200}, csv_assembled, expired_or(csv_assembled), 9, step=7
    ),
    "finalize": Story(finalize, {200}, finalized, finalized_or_not, 3),
    "finalize what an old client sent": Story(finalize_legacy, {200}, finalized, finalized_or_not, 9, step=5),
    "abort": Story(abort, {200}, aborted, nothing_used, 5, step=3),
    "clean up": Story(clean, {200}, cleaned, cleaned, 8, step=7),
    "finish a deletion": Story(begin_deletion, {200}, deleted, deleted, 8, step=5),
    "delete": Story(delete, {200, 404}, deleted, deleted_or_not_begun, 8, step=5),
}


@pytest.mark.parametrize("is_repeated", [True, False], ids=["repeated", "abandoned"])
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_call_it_ends_as_if_it_had_not_been(new_world, name, is_repeated, record_property):
    story = STORIES[name]
    calls = count_calls(new_world(), story)
    n_points = 0
    for at, is_after in points(len(calls), story.step if is_repeated else max(story.step, 3)):
        world = new_world()
        request = story.prepare(world)
        killed = world.send(dying(request, at, is_after_effect=is_after))
        where = f"killed {'after' if is_after else 'before'} call {at} of {len(calls)}, {calls[at - 1]}"
        assert killed.status is None, f"not {where}: the run makes fewer calls than the first one"
        try:
            if is_repeated:
                world.let_leases_run_out()
                outcome = send_until_it_ends(world, request)
                assert outcome.status in story.repeated, outcome
                world.clean_up()
                story.ends(world, outcome)
            else:
                world.clean_up()
                story.abandoned(world)
            world.check(deleted_units=0 if world.sessions() else 1)
        except AssertionError as error:
            error.add_note(where)
            raise
        n_points += 1
    record_property("crash_points", n_points)


def send_until_it_ends(world: World, request: Request) -> Outcome:
    """Send a request as clients do, who come back when they are told to: on a busy machine storage can time out."""
    for _ in range(2):
        outcome = world.send(request)
        if not (outcome.status == 503 and outcome.document["retryable"]):
            return outcome
    return world.send(request)


def count_calls(world: World, story: Story) -> list[str]:
    """Run the story without an accident; it must end as it should, too."""
    outcome = world.send(story.prepare(world))
    assert outcome.status in story.repeated, outcome
    assert len(outcome.calls) >= story.least_calls, outcome.calls
    world.clean_up()
    story.ends(world, outcome)
    return list(outcome.calls)

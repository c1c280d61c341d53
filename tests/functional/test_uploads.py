import hashlib
import io
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.factories import some_bytes
from tests.fakes.objects import crc32c_of
from tests.functional.conftest import MIB, Client, done, refused

TABLE = b"a,b\n1,2\n3,4\n"


class TestCreateUpload:
    def test_an_upload_is_answered_with_its_plan_and_its_first_signed_chunks(self, alice, people):
        data = alice.create(8 * MIB + 5, contentType="text/csv")

        chunks = data.pop("chunks")
        assert set(data) == {
            "uploadId", "sessionId", "fileName", "size", "contentType", "chunkSize", "totalChunks", "state",
            "expiresAt", "concurrency", "crc32c", "sha256", "nRows", "verifiedBytes", "failure", "isNew",
        }  # fmt: skip
        assert data["isNew"]
        assert (data["size"], data["chunkSize"], data["totalChunks"]) == (8 * MIB + 5, 8 * MIB, 2)
        assert (data["state"], data["contentType"], data["concurrency"]) == ("open", "text/csv", 6)
        assert [(chunk["index"], chunk["size"], chunk["method"]) for chunk in chunks] == [
            (0, 8 * MIB, "PUT"),
            (1, 5, "PUT"),
        ]
        assert chunks[1]["headers"] == {"x-goog-content-length-range": "5,5", "x-goog-if-generation-match": "0"}
        assert people.usage(alice.caller) == (1, 8 * MIB + 5)

    def test_repeating_it_returns_the_same_upload_and_counts_nothing(self, alice, people):
        first = alice.create(10)

        answer = alice.post("/uploads", {"sessionId": "weather", "fileName": "hours.csv", "size": 10})

        again = done(answer, 200)
        assert (again["uploadId"], again["isNew"]) == (first["uploadId"], False)
        assert people.usage(alice.caller) == (1, 10)

    def test_another_file_of_the_name_is_refused(self, alice, people):
        upload = alice.create(10)

        answer = alice.post("/uploads", {"sessionId": "weather", "fileName": "hours.csv", "size": 11})

        details = refused(answer, 409, "file_exists")
        assert details == {"uploadId": upload["uploadId"], "state": "open", "size": 10}
        assert people.usage(alice.caller) == (1, 10)

    def test_a_finalized_session_takes_no_more(self, alice):
        alice.init()
        done(alice.post("/finalize-session", {"sessionId": "weather"}))

        answer = alice.post("/uploads", {"sessionId": "weather", "fileName": "hours.csv", "size": 10})

        assert refused(answer, 409, "session_finalized") == {"status": "finalized"}

    def test_the_server_decides_how_large_chunks_are(self, alice):
        small = alice.create(1 << 40, fileName="tebibyte.bin", chunkSize=1)
        large = alice.create(100 * MIB, fileName="large.bin", chunkSize=50 * MIB)

        assert (small["chunkSize"], small["totalChunks"], len(small["chunks"])) == (1 << 30, 1024, 128)
        assert (large["chunkSize"], large["totalChunks"]) == (48 * MIB, 3)


class TestLimits:
    @staticmethod
    def attempt(client: Client, n_bytes: int = 10) -> Any:
        client.init()
        return client.post("/uploads", {"sessionId": "weather", "fileName": "hours.csv", "size": n_bytes})

    @staticmethod
    def attempt_legacy(client: Client) -> Any:
        client.init()
        metadata = {"sessionId": "weather", "fileName": "hours.csv", "chunkIndex": 0, "totalChunks": 1}
        form = {"metadata": json.dumps(metadata), "chunk": (io.BytesIO(bytes(10)), "blob")}
        return client.post("/upload-chunk", data=form)

    @pytest.mark.parametrize("plan", [{"is_subscribed": False}, {"status": "canceled"}])
    @pytest.mark.parametrize("way", ["attempt", "attempt_legacy"])
    def test_without_a_subscription_payment_is_required(self, api, people, http, plan, way):
        client = Client(api, people.add(**plan), http)
        client.init()
        before = people.snapshot()

        refused(getattr(self, way)(client), 402, "subscription_required")

        assert people.snapshot() == before

    @pytest.mark.parametrize("way", ["attempt", "attempt_legacy"])
    def test_a_limit_that_is_used_up_says_when_it_resets(self, api, people, http, way):
        client = Client(api, people.add(processing_limit=0), http)
        client.init()
        before = people.snapshot()

        answer = getattr(self, way)(client)

        details = refused(answer, 429, "processing_limit_reached")
        assert (details["limit"], details["used"]) == (0, 0)
        assert 0 < int(answer.headers["Retry-After"]) <= 20 * 86400
        period_end = before["user_subscriptions"][0]["period_end"]
        assert datetime.fromisoformat(details["resetsAt"]) == period_end
        assert people.snapshot() == before

    @pytest.mark.parametrize("way", ["attempt", "attempt_legacy"])
    def test_storage_that_is_used_up_is_told_with_the_limit(self, api, people, http, way):
        client = Client(api, people.add(bytes_stored_limit=9), http)
        client.init()
        before = people.snapshot()

        assert refused(getattr(self, way)(client), 403, "storage_limit_reached") == {"limit": 9, "used": 0}

        assert people.snapshot() == before

    def test_a_file_larger_than_the_plan_takes_is_too_large(self, api, people, http):
        client = Client(api, people.add(bytes_per_upload_limit=9), http)

        assert refused(self.attempt(client), 413, "too_large") == {"limit": 9}

    def test_a_limit_is_free_again_when_an_upload_is_given_up(self, api, people, http):
        client = Client(api, people.add(processing_limit=1, bytes_stored_limit=10), http)
        upload = done(self.attempt(client), 201)
        done(client.post(f"/uploads/{upload['uploadId']}/abort"))

        done(self.attempt(client), 201)


class TestSignChunks:
    def test_chunks_are_signed_anew_with_their_checksums(self, alice):
        upload = alice.create(4)
        path = f"/uploads/{upload['uploadId']}/chunks"

        data = done(alice.post(path, {"chunks": [{"index": 0, "crc32c": crc32c_of(b"1234")}]}))

        assert set(data) == {"uploadId", "expiresAt", "chunks"}
        [chunk] = data["chunks"]
        assert chunk["headers"]["x-goog-hash"] == f"crc32c={crc32c_of(b'1234')}"
        assert alice.put(chunk, b"12x4") == 400
        assert alice.put(chunk, b"1234") == 200
        assert alice.put(chunk, b"1234") == 412

    def test_signing_is_a_sign_of_life(self, alice, local_stack):
        upload = alice.create(4)
        local_stack.rows(
            "update public.uploads set expires_at = now(), updated_at = now() - interval '23 hours' where id = %s",
            upload["uploadId"],
        )

        data = done(alice.post(f"/uploads/{upload['uploadId']}/chunks", {"chunks": [{"index": 0}]}))

        [row] = local_stack.rows(
            "select expires_at - now() as lifetime, now() - updated_at as silence from public.uploads where id = %s",
            upload["uploadId"],
        )
        assert row["lifetime"].total_seconds() > 23 * 3600
        assert row["silence"].total_seconds() < 3600
        assert data["expiresAt"]

    @pytest.mark.parametrize("index", [1, 1023])
    def test_a_chunk_beyond_the_last_is_refused_and_extends_nothing(self, alice, people, index):
        upload = alice.create(4)
        before = people.snapshot()

        answer = alice.post(f"/uploads/{upload['uploadId']}/chunks", {"chunks": [{"index": index}]})

        assert refused(answer, 422, "invalid_field") == {"field": "chunks"}
        assert people.snapshot() == before

    def test_an_upload_that_is_assembled_takes_no_more_chunks(self, alice):
        upload = alice.assembled(TABLE)

        answer = alice.post(f"/uploads/{upload['uploadId']}/chunks", {"chunks": [{"index": 0}]})

        assert refused(answer, 409, "wrong_state") == {"state": "assembled"}


class TestGetUpload:
    def test_what_the_bucket_holds_is_told_chunk_by_chunk(self, alice):
        content = some_bytes(16 * MIB + 3)
        upload = alice.create(len(content))
        alice.send(upload, content, missing=(1,))

        data = done(alice.get(f"/uploads/{upload['uploadId']}"))

        assert data["received"] == [
            {"index": 0, "size": 8 * MIB, "crc32c": crc32c_of(content[: 8 * MIB])},
            {"index": 2, "size": 3, "crc32c": crc32c_of(content[16 * MIB :])},
        ]
        assert (data["receivedBytes"], data["missing"], data["state"]) == (8 * MIB + 3, [1], "open")

    def test_an_assembled_upload_tells_what_was_made_of_it(self, alice):
        upload = alice.assembled(TABLE)

        data = done(alice.get(f"/uploads/{upload['uploadId']}"))

        assert (data["state"], data["received"], data["missing"]) == ("assembled", [], [])
        assert (data["nRows"], data["crc32c"]) == (2, crc32c_of(TABLE))
        assert data["sha256"] == hashlib.sha256(TABLE).hexdigest()


class TestWholePath:
    @pytest.mark.parametrize("n_bytes", [0, 1, 8 * MIB, 8 * MIB + 1], ids=str)
    def test_a_file_of_any_size_becomes_one_object(self, alice, buckets, people, n_bytes):
        content = some_bytes(n_bytes)
        upload = alice.uploaded(content, fileName="größe 'x' 50%2F.bin")

        data = done(alice.post(f"/uploads/{upload['uploadId']}/assemble"))

        assert (data["state"], data["size"], data["crc32c"]) == ("assembled", n_bytes, crc32c_of(content))
        assert (data["sha256"], data["nRows"], data["failure"]) == (None, None, None)
        assert buckets.data_sets(alice.init()["uuid"]) == {"größe 'x' 50%2F.bin": content}
        assert buckets.temporary(upload["uploadId"]) == []
        assert people.usage(alice.caller) == (1, n_bytes)

    def test_33_chunks_are_joined_in_two_levels(self, alice, buckets):
        line = b"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25\n"
        n_lines = (33 * 8 * MIB - 200) // len(line)
        content = b"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y\n" + line * n_lines
        content += b"1" * (33 * 8 * MIB - len(content))
        upload = alice.create(len(content), sha256=hashlib.sha256(content).hexdigest())
        assert upload["totalChunks"] == 33
        alice.send(upload, content)

        data = done(alice.post(f"/uploads/{upload['uploadId']}/assemble"))

        assert (data["nRows"], data["crc32c"]) == (n_lines + 1, crc32c_of(content))
        [stored] = buckets.data_sets(alice.init()["uuid"]).values()
        assert stored == content
        assert buckets.temporary(upload["uploadId"]) == []

    def test_an_upload_broken_off_by_one_client_is_finished_by_another(self, alice, api, http, buckets):
        content = some_bytes(16 * MIB + 3)
        begun = alice.create(len(content), fileName="hours.bin")
        alice.send(begun, content, missing=(1,))
        elsewhere = Client(api, alice.caller, http)

        found = done(elsewhere.get(f"/uploads/{begun['uploadId']}"))
        signed = done(
            elsewhere.post(f"/uploads/{begun['uploadId']}/chunks", {"chunks": [{"index": i} for i in found["missing"]]})
        )
        elsewhere.send({**found, "chunks": signed["chunks"]}, content)
        done(elsewhere.post(f"/uploads/{begun['uploadId']}/assemble"))

        assert buckets.data_sets(alice.init()["uuid"]) == {"hours.bin": content}


class TestAssembleUpload:
    def test_missing_chunks_are_named_and_the_upload_stays_open(self, alice, people, buckets):
        content = some_bytes(16 * MIB + 3)
        upload = alice.create(len(content))
        alice.send(upload, content, missing=(0, 2))

        answer = alice.post(f"/uploads/{upload['uploadId']}/assemble")

        assert refused(answer, 409, "chunks_missing") == {"missing": [0, 2], "n_missing": 2}
        assert done(alice.get(f"/uploads/{upload['uploadId']}"))["state"] == "open"
        assert len(buckets.temporary(upload["uploadId"])) == 1
        assert people.usage(alice.caller) == (1, len(content))

    def test_assembling_twice_returns_the_same_object(self, alice, local_stack):
        upload = alice.uploaded(TABLE)
        path = f"/uploads/{upload['uploadId']}/assemble"

        first = done(alice.post(path))
        [row] = local_stack.rows("select * from public.uploads where id = %s", upload["uploadId"])
        second = done(alice.post(path))

        assert first == second
        assert local_stack.rows("select * from public.uploads where id = %s", upload["uploadId"]) == [row]

    def test_of_two_assembles_at_once_one_works_and_the_other_waits_or_finds_it_done(self, alice, buckets):
        for number in range(4):
            upload = alice.uploaded(TABLE, fileName=f"{number}.csv")
            path = f"/uploads/{upload['uploadId']}/assemble"

            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(lambda _, path=path: alice.post(path), range(2)))

            assert {answer.status_code for answer in answers} <= {200, 202}
            assert 200 in {answer.status_code for answer in answers}
            for answer in answers:
                if answer.status_code == 202:
                    assert done(answer, 202)["state"] == "assembling"
                    assert int(answer.headers["Retry-After"]) > 0
            assert done(alice.post(path))["crc32c"] == crc32c_of(TABLE)
        stored = buckets.data_sets(alice.init()["uuid"])
        assert stored == {f"{number}.csv": TABLE for number in range(4)}

    def test_work_that_another_call_holds_is_answered_202_with_how_far_it_is(self, alice, local_stack):
        upload = alice.uploaded(TABLE)
        held = (alice.caller.user_id, upload["uploadId"], str(uuid.uuid4()))
        local_stack.rows("select public.claim_assembly_v1(%s, %s, %s, 60)", *held)
        local_stack.rows("select public.report_verified_v1(%s, %s, %s, 7)", *held)

        answer = alice.post(f"/uploads/{upload['uploadId']}/assemble")

        data = done(answer, 202)
        assert (data["state"], data["verifiedBytes"]) == ("assembling", 7)
        assert answer.headers["Retry-After"] == "2"
        assert done(alice.get(f"/uploads/{upload['uploadId']}"))["verifiedBytes"] == 7
        local_stack.rows("select public.release_assembly_v1(%s, %s, %s)", *held)
        assert done(alice.get(f"/uploads/{upload['uploadId']}"))["verifiedBytes"] is None

    def test_a_call_that_was_killed_is_taken_over_when_its_lease_has_run_out(self, alice, local_stack, buckets):
        upload = alice.uploaded(TABLE)
        local_stack.rows(
            "select public.claim_assembly_v1(%s, %s, %s, 0)",
            alice.caller.user_id,
            upload["uploadId"],
            str(uuid.uuid4()),
        )

        assert done(alice.post(f"/uploads/{upload['uploadId']}/assemble"))["state"] == "assembled"
        assert buckets.data_sets(alice.init()["uuid"]) == {"hours.csv": TABLE}

    def test_a_declared_sha256_that_is_not_the_files_is_told(self, alice, buckets):
        upload = alice.uploaded(TABLE, sha256="ab" * 32)

        answer = alice.post(f"/uploads/{upload['uploadId']}/assemble")

        details = refused(answer, 409, "checksum_mismatch")
        assert details == {"declared": "ab" * 32, "actual": hashlib.sha256(TABLE).hexdigest()}
        assert done(alice.get(f"/uploads/{upload['uploadId']}"))["state"] == "open"
        assert buckets.data_sets(alice.init()["uuid"]) == {}

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", 1),
            (b"", 1),
            (b"\n\n", 1),
            (b"a,b\n1,2\n3,4,5\n6,7\n", 3),
            (b'a,b\n1,2\n3,"4\n', 3),
        ],
        ids=["png", "empty", "blank", "ragged", "unclosed"],
    )
    def test_a_csv_that_is_none_fails_with_its_line_and_costs_nothing(self, alice, people, buckets, content, line):
        upload = alice.uploaded(content)

        answer = alice.post(f"/uploads/{upload['uploadId']}/assemble")

        details = refused(answer, 422, "data_set_invalid")
        assert details["line"] == line
        shown = done(alice.get(f"/uploads/{upload['uploadId']}"))
        assert shown["state"] == "failed"
        assert shown["failure"] == {"code": "data_set_invalid", "detail": answer.json["detail"], **details}
        assert buckets.data_sets(alice.init()["uuid"]) == {}
        assert buckets.temporary(upload["uploadId"]) == []
        assert people.usage(alice.caller) == (0, 0)

    def test_a_failed_upload_stays_failed_and_makes_room_for_another(self, alice):
        upload = alice.uploaded(b"\x89PNG")
        alice.post(f"/uploads/{upload['uploadId']}/assemble")

        again = alice.post(f"/uploads/{upload['uploadId']}/assemble")
        other = alice.assembled(TABLE)

        details = refused(again, 409, "wrong_state")
        assert (details["state"], details["failure"]["code"]) == ("failed", "data_set_invalid")
        assert other["nRows"] == 2


class TestAbortUpload:
    def test_an_aborted_upload_is_deleted_and_free_of_charge(self, alice, people, buckets):
        upload = alice.uploaded(TABLE)

        data = done(alice.post(f"/uploads/{upload['uploadId']}/abort"))

        assert data == {"uploadId": upload["uploadId"], "state": "aborted", "objectsDeleted": 1}
        assert buckets.temporary(upload["uploadId"]) == []
        assert people.usage(alice.caller) == (0, 0)

    def test_aborting_twice_frees_once(self, alice, people, api):
        alice.create(7, fileName="other.bin")
        upload = alice.uploaded(TABLE)
        path = f"/uploads/{upload['uploadId']}"
        done(alice.post(f"{path}/abort"))

        again = done(api.request("DELETE", path, caller=alice.caller))

        assert (again["state"], again["objectsDeleted"]) == ("aborted", 0)
        assert people.usage(alice.caller) == (1, 7)

    def test_an_assembled_upload_cannot_be_aborted(self, alice, buckets):
        upload = alice.assembled(TABLE)

        assert refused(alice.post(f"/uploads/{upload['uploadId']}/abort"), 409, "wrong_state") == {"state": "assembled"}
        assert buckets.data_sets(alice.init()["uuid"]) == {"hours.csv": TABLE}

    def test_an_aborted_upload_cannot_be_assembled_or_signed_for(self, alice):
        upload = alice.uploaded(TABLE)
        done(alice.post(f"/uploads/{upload['uploadId']}/abort"))

        refused(alice.post(f"/uploads/{upload['uploadId']}/assemble"), 409, "wrong_state")
        answer = alice.post(f"/uploads/{upload['uploadId']}/chunks", {"chunks": [{"index": 0}]})
        assert refused(answer, 409, "wrong_state") == {"state": "aborted"}


class TestUploadChunk:
    @staticmethod
    def metadata(index: Any = 0, total: Any = 3, **fields: Any) -> dict[str, Any]:
        return {"sessionId": "weather", "fileName": "hours.csv", "chunkIndex": index, "totalChunks": total} | fields

    def sent(self, client: Client, content: bytes, index: Any = 0, total: Any = 3, **fields: Any) -> Any:
        metadata = json.dumps(self.metadata(index, total, **fields))
        form = httpx.Request("POST", "http://x", data={"metadata": metadata}, files={"chunk": ("blob", content)})
        return client.post("/upload-chunk", data=form.read(), content_type=form.headers["Content-Type"])

    def test_the_last_chunk_assembles_the_file(self, alice, buckets, people):
        alice.init()
        parts = {1: b"1,2\n", 0: b"a,b\n", 2: b"3,4\n"}

        answers = [done(self.sent(alice, content, index)) for index, content in parts.items()]

        assert [answer["progress"] for answer in answers] == [33.33, 66.67, 100.0]
        assert [answer["chunk_index"] for answer in answers] == [1, 0, 2]
        assert all(answer["chunk_saved"] and answer["total_chunks"] == 3 for answer in answers)
        assert [answer["state"] for answer in answers] == ["open", "open", "assembled"]
        assert buckets.data_sets(alice.init()["uuid"]) == {"hours.csv": TABLE}
        assert people.usage(alice.caller) == (1, 12)
        assert done(alice.post("/finalize-session", {"sessionId": "weather"}))["n_dat"] == 2

    def test_a_chunk_sent_again_is_saved_already(self, alice, people):
        alice.init()
        first = done(self.sent(alice, b"a,b\n"))

        assert done(self.sent(alice, b"a,b\n")) == first
        assert people.usage(alice.caller)[0] == 1

    def test_a_chunk_sent_again_with_other_bytes_is_refused(self, alice):
        alice.init()
        done(self.sent(alice, b"a,b\n"))

        assert refused(self.sent(alice, b"a,c\n"), 409, "chunk_mismatch") == {"index": 0}

    def test_metadata_alone_are_answered_with_a_signed_request(self, alice, buckets):
        alice.init()
        for index, content in enumerate([b"a,b\n1,2\n", b"3,4\n"]):
            data = done(alice.post("/upload-chunk", self.metadata(index, 2)))
            assert (data["chunk_index"], data["total_chunks"], data["state"]) == (index, 2, "open")
            assert alice.put(data["chunk"], content) == 200

        data = done(alice.post("/finalize-session", {"sessionId": "weather"}))

        assert data == {"session_id": "weather", "status": "finalized", "n_dat": 2, "database_saved": True}
        assert buckets.data_sets(alice.init()["uuid"]) == {"hours.csv": TABLE}

    def test_metadata_may_stand_inside_the_json_body(self, alice):
        alice.init()

        assert done(alice.post("/upload-chunk", {"metadata": self.metadata(), "userId": "ignored"}))["upload_id"]

    def test_a_csv_that_is_none_fails_with_its_last_chunk(self, alice, people):
        alice.init()

        refused(self.sent(alice, b"\x89PNG", 0, 1), 422, "data_set_invalid")
        assert people.usage(alice.caller) == (0, 0)

    @pytest.mark.parametrize(
        ("form", "status", "code"),
        [
            ({}, 422, "invalid_field"),
            ({"metadata": "{}"}, 422, "invalid_field"),
            ({"metadata": "{", "chunk": (b"x", "blob")}, 422, "invalid_field"),
            ({"metadata": "[]", "chunk": (b"x", "blob")}, 422, "invalid_field"),
            ({"metadata": "[" * 100_000, "chunk": (b"x", "blob")}, 422, "invalid_field"),
            ({"chunk": (b"x", "blob")}, 422, "invalid_field"),
            ({"chunk": "x", "metadata": "{}"}, 422, "invalid_field"),
        ],
    )
    def test_a_form_without_what_it_needs_is_refused(self, alice, people, form, status, code):
        alice.init()
        before = people.snapshot()
        fields = {
            name: (io.BytesIO(value[0]), value[1]) if isinstance(value, tuple) else value
            for name, value in form.items()
        }

        answer = alice.post("/upload-chunk", data=fields, content_type="multipart/form-data")

        refused(answer, status, code)
        assert people.snapshot() == before

    @pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=x"])
    def test_a_form_that_cannot_be_read_is_refused(self, alice, people, boundary):
        alice.init()
        before = people.snapshot()

        answer = alice.post("/upload-chunk", data=b"nonsense", content_type=f"multipart/form-data{boundary}")

        assert answer.status_code in {400, 422}
        assert answer.content_type == "application/problem+json"
        assert people.snapshot() == before

    def test_a_request_of_more_than_32_mib_is_too_large(self, alice, people):
        alice.init()
        before = people.snapshot()

        refused(self.sent(alice, bytes(32 * MIB)), 413, "too_large")
        refused(self.sent(alice, bytes(31 * MIB + 1)), 413, "too_large")
        assert people.snapshot() == before

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"sessionId": "../x"}, "sessionId"),
            ({"sessionId": None}, "sessionId"),
            ({"fileName": "/etc/passwd"}, "fileName"),
            ({"fileName": "C:\\x"}, "fileName"),
            ({"fileName": "a\x00"}, "fileName"),
            ({"chunkIndex": -1}, "chunkIndex"),
            ({"chunkIndex": 3}, "chunkIndex"),
            ({"chunkIndex": "0"}, "chunkIndex"),
            ({"totalChunks": 0}, "totalChunks"),
            ({"totalChunks": 10**9}, "totalChunks"),
            ({"totalChunks": 1.5}, "totalChunks"),
        ],
    )
    @pytest.mark.parametrize("way", ["form", "json"])
    def test_a_field_that_is_not_allowed_is_named(self, alice, people, fields, field, way):
        alice.init()
        before = people.snapshot()

        answer = (
            self.sent(alice, b"x", **fields) if way == "form" else alice.post("/upload-chunk", self.metadata() | fields)
        )

        assert refused(answer, 422, "invalid_field") == {"field": field}
        assert people.snapshot() == before

    def test_a_session_of_somebody_else_is_none(self, alice, bob):
        alice.init()

        refused(self.sent(bob, b"x"), 404, "session_not_found")


class TestFinalizeSession:
    def test_a_session_whose_uploads_are_assembled_is_finalized(self, alice):
        alice.assembled(TABLE, fileName="a.csv")
        alice.assembled(TABLE, fileName="b.csv")

        data = done(alice.post("/finalize-session", {"sessionId": "weather"}))

        assert data == {"session_id": "weather", "status": "finalized", "n_dat": 4, "database_saved": True}
        assert done(alice.get("/session/weather"))["n_dat"] == 4

    def test_repeating_it_answers_the_same(self, alice):
        alice.assembled(TABLE)

        first = done(alice.post("/finalize-session", {"sessionId": "weather"}))

        assert done(alice.post("/finalize-session", {"sessionId": "weather"})) == first

    def test_a_session_without_uploads_has_no_rows(self, alice):
        alice.init()

        assert done(alice.post("/finalize-session", {"sessionId": "weather"}))["n_dat"] == 0

    def test_unfinished_uploads_are_named_and_nothing_changes(self, alice, people):
        upload = alice.create(5)
        before = people.snapshot()

        answer = alice.post("/finalize-session", {"sessionId": "weather"})

        details = refused(answer, 409, "uploads_unfinished")
        assert details == {"uploads": [{"uploadId": upload["uploadId"], "fileName": "hours.csv", "state": "open"}]}
        assert people.snapshot() == before

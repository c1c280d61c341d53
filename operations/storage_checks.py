"""What a deployment's storage must do, each point tried on the buckets themselves.

The functions' own adapters make the calls that the functions make; plain HTTP makes those that browsers make, and
those that must be refused. Expected settings of the buckets are read from infra/storage.yaml. Everything is written
below `doctor/<uuid>/` of the uploads bucket, and deleted by `clean_up`.
"""

import base64
import json
import os
import shlex
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import google_crc32c
import httpx
import yaml
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.checksums import encode_crc32c
from shared.errors import ObjectExistsError, ObjectNotFoundError, ServiceError
from shared.records.objects import SignedUrl, StoredObject
from shared.settings import StorageSettings

STORAGE_FILE = Path(__file__).resolve().parent.parent / "infra/storage.yaml"
GOOGLE_STORAGE = "https://storage.googleapis.com"
TIMEOUT_S = 30.0
# A `Date` header counts whole seconds; more than this is a clock that nobody sets.
LARGEST_SKEW_S = 30.0
SHORT_LIFE_S = 1
# What the functions do with objects; all of it is in roles/storage.objectUser.
PERMISSIONS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
CONTENT = b"time,value\n1,2\n"
CONTENT_TYPE = "text/csv"
# What the adapters let through or raise; any other error is a defect of this program.
_BROKEN_OFF = (ServiceError, ObjectNotFoundError, ObjectExistsError, GoogleAPIError, GoogleAuthError)
# A rule that has one of these spares the live version of an object.
_NONCURRENT = {"daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions"}


class Verdict(StrEnum):
    """What became of a point."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "not checkable"
    INFORMATION = "information"


@dataclass(frozen=True)
class Point:
    """One point and its verdict.

    Attributes:
        name: Stable, for programs.
        finding: What was seen.
        fix: What to do about a failure; a command where there is one.
    """

    name: str
    verdict: Verdict
    finding: str
    fix: str = ""


@dataclass(frozen=True)
class _Seen:
    """The outcome of a check that has no name yet."""

    verdict: Verdict
    finding: str
    fix: str = ""


@dataclass(frozen=True)
class _Check:
    """A check, and the points without which it says nothing."""

    name: str
    run: Callable[[], _Seen]
    needs: Sequence[str] = ()


class StorageChecks:
    """Checks the two buckets of a deployment."""

    def __init__(
        self,
        settings: StorageSettings,
        origins: Collection[str],
        *,
        storage_file: Path = STORAGE_FILE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._origins = sorted(origins)
        self._expected: Mapping[str, Any] = yaml.safe_load(storage_file.read_text(encoding="utf-8"))
        self._sleep = sleep
        self._emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
        self._api = (self._emulator or GOOGLE_STORAGE) + "/storage/v1"
        self.prefix = f"doctor/{uuid.uuid4()}/"
        self._store = GcsObjectStore(settings.uploads_bucket)
        self._artifacts = GcsObjectStore(settings.artifacts_bucket)
        self._signer = GcsUrlSigner(settings, settings.uploads_bucket)
        self._http = httpx.Client(timeout=TIMEOUT_S)
        # Points that failed or could not be checked.
        self._without: set[str] = set()

    def run(self) -> Iterator[Point]:
        """Yield one point after the other. Call `clean_up` afterwards, also if this is interrupted."""
        for check in self._plan():
            point = self._checked(check)
            if point.verdict in {Verdict.FAILED, Verdict.UNKNOWN}:
                self._without.add(point.name)
            yield point

    def _checked(self, check: _Check) -> Point:
        lacking = [need for need in check.needs if need in self._without]
        if lacking:
            return Point(check.name, Verdict.UNKNOWN, f"because of {lacking[0]}")
        try:
            seen = check.run()
        except httpx.HTTPError as error:
            seen = _failed(
                f"no answer: {error}", f"Check that {self._settings.public_url} and {self._api} can be reached."
            )
        except _BROKEN_OFF as error:
            seen = _failed(_words(error), "Put right what the error names, and run again.")
        return Point(check.name, seen.verdict, seen.finding, seen.fix)

    def _plan(self) -> Sequence[_Check]:
        uploads, artifacts = "bucket.uploads", "bucket.artifacts"
        composing = (uploads, "compose")
        return (
            _Check(uploads, lambda: self._reached(self._store, self._settings.uploads_bucket)),
            _Check(artifacts, lambda: self._reached(self._artifacts, self._settings.artifacts_bucket)),
            _Check("clock", self._clock),
            _Check("cors.allowed-origin", self._preflight_allowed, (uploads,)),
            _Check("cors.other-origin", self._preflight_refused, (uploads,)),
            _Check("cors.artifacts", self._preflight_artifacts, (artifacts,)),
            *(
                _Check(f"{name}.{entry}", partial(rule, entry), (f"bucket.{entry}",))
                for entry in ("uploads", "artifacts")
                for name, rule in (
                    ("soft-delete", self._soft_delete),
                    ("versioning", self._versioning),
                    ("lifecycle", self._lifecycle),
                    ("iam", self._permissions),
                )
            ),
            _Check("signing", self._signing, (uploads,)),
            _Check("put", self._put_taken, ("signing",)),
            _Check("cors.exposed-headers", self._exposed_headers, ("put",)),
            _Check("put.too-long", lambda: self._put_of_length(len(CONTENT) + 1), ("put",)),
            _Check("put.too-short", lambda: self._put_of_length(len(CONTENT) - 1), ("put",)),
            _Check("put.twice", self._put_twice, ("put",)),
            _Check("put.header-missing", self._put_without_header, ("put",)),
            _Check("put.header-altered", self._put_with_other_header, ("put",)),
            _Check("put.url-altered", self._put_elsewhere, ("put",)),
            _Check("put.checksum", self._put_with_wrong_checksum, ("put",)),
            _Check("compose", self._compose, (uploads,)),
            _Check("compose.stale-source", self._compose_stale_source, composing),
            _Check("compose.existing-destination", self._compose_existing_destination, composing),
            _Check("compose.destination-crc32c", self._compose_with_wrong_checksum, composing),
            _Check("delete.stale-generation", self._delete_stale, (uploads,)),
            _Check("put.expired", self._put_expired, ("put",)),
        )

    # The buckets and their settings

    def _reached(self, store: GcsObjectStore, bucket: str) -> _Seen:
        fix = f"Check the name {bucket!r}, STORAGE_EMULATOR_HOST (unset in the cloud) and the credentials."
        try:
            store.list(self.prefix)
        except _BROKEN_OFF as error:
            return _failed(f"{bucket} cannot be listed: {_words(error)}", fix)
        return _ok(f"{bucket} answers")

    def _bucket_fields(self, entry: str) -> Mapping[str, Any] | str:
        """Return a bucket's metadata, or why they are not to be had."""
        answer = self._http.get(f"{self._api}/b/{self._bucket(entry)}", headers=self._authorization)
        if answer.status_code in {401, 403}:
            return "this account may not read the bucket's metadata (storage.buckets.get, roles/storage.bucketViewer)"
        if not answer.is_success:
            return f"the bucket's metadata were answered with {answer.status_code}"
        fields: dict[str, Any] = answer.json()
        # Cloud Storage always says it, also of buckets that have none.
        if self._emulator and "softDeletePolicy" not in fields:
            return "the storage emulator keeps no such settings"
        return fields

    def _bucket(self, entry: str) -> str:
        return self._settings.uploads_bucket if entry == "uploads" else self._settings.artifacts_bucket

    @cached_property
    def _authorization(self) -> Mapping[str, str]:
        if self._emulator:
            return {}
        import google.auth  # noqa: PLC0415 - only on a live bucket
        from google.auth.transport.requests import Request  # noqa: PLC0415 - see above

        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        credentials.refresh(Request())
        return {"Authorization": f"Bearer {credentials.token}"}

    def _soft_delete(self, entry: str) -> _Seen:
        fields = self._bucket_fields(entry)
        if isinstance(fields, str):
            return _unknown(fields)
        if "softDeletePolicy" not in fields:
            return _unknown("the bucket's metadata say nothing about it")
        actual = int(fields["softDeletePolicy"].get("retentionDurationSeconds", 0))
        wanted = int(self._expected[entry]["soft_delete_seconds"])
        if actual == wanted:
            return _ok(f"kept {actual} s after deletion")
        option = f"--soft-delete-duration={wanted}s" if wanted else "--clear-soft-delete"
        return _failed(f"kept {actual} s after deletion instead of {wanted} s", self._update(entry, option))

    def _versioning(self, entry: str) -> _Seen:
        fields = self._bucket_fields(entry)
        if isinstance(fields, str):
            return _unknown(fields)
        actual = bool(fields.get("versioning", {}).get("enabled"))
        wanted = bool(self._expected[entry]["versioning"])
        words = {True: "on", False: "off"}
        if actual == wanted:
            return _ok(words[actual])
        return _failed(
            f"{words[actual]} instead of {words[wanted]}",
            self._update(entry, "--versioning" if wanted else "--no-versioning"),
        )

    def _lifecycle(self, entry: str) -> _Seen:
        fields = self._bucket_fields(entry)
        if isinstance(fields, str):
            return _unknown(fields)
        wanted = [
            {
                "action": {"type": "Delete"},
                "condition": {"age": rule["delete_after_days"], "matchesPrefix": sorted(rule["prefixes"])},
            }
            for rule in self._expected[entry]["lifecycle"]
        ]
        deleting = [rule for rule in fields.get("lifecycle", {}).get("rule", []) if _deletes_live_objects(rule)]
        if sorted(map(_canonical, deleting)) == sorted(map(_canonical, wanted)):
            return _ok(f"{len(deleting)} rules that delete, as in {STORAGE_FILE.name}")
        document = json.dumps({"rule": wanted})
        return _failed(
            f"rules that delete: {json.dumps(deleting)}; wanted: {json.dumps(wanted)}",
            f"printf %s {shlex.quote(document)} > lifecycle.json && "
            + self._update(entry, "--lifecycle-file=lifecycle.json"),
        )

    def _permissions(self, entry: str) -> _Seen:
        answer = self._http.get(
            f"{self._api}/b/{self._bucket(entry)}/iam/testPermissions",
            params=[("permissions", permission) for permission in PERMISSIONS],
            headers=self._authorization,
        )
        if not answer.is_success:
            reason = "the storage emulator knows no IAM" if self._emulator else "the question was not answered"
            return _unknown(f"{reason} (status {answer.status_code})")
        lacking = sorted(set(PERMISSIONS) - set(answer.json().get("permissions", [])))
        if not lacking:
            return _ok("may create, read, list and delete objects")
        return _failed(
            f"lacks {', '.join(lacking)}",
            f"gcloud storage buckets add-iam-policy-binding gs://{self._bucket(entry)} "
            "--member=serviceAccount:ACCOUNT --role=roles/storage.objectUser (ACCOUNT: the functions' own)",
        )

    def _update(self, entry: str, option: str) -> str:
        return f"gcloud storage buckets update gs://{self._bucket(entry)} {option}"

    # Browsers

    def _clock(self) -> _Seen:
        asked_at = datetime.now(UTC)
        answer = self._http.options(self._settings.public_url)
        if "date" not in answer.headers:
            return _unknown("the answer has no Date")
        ours = asked_at + (datetime.now(UTC) - asked_at) / 2
        skew_s = (ours - parsedate_to_datetime(answer.headers["date"])).total_seconds()
        if abs(skew_s) <= LARGEST_SKEW_S:
            return _ok(f"within {LARGEST_SKEW_S:.0f} s of {self._settings.public_url}")
        return _failed(
            f"this clock is {skew_s:+.0f} s off {self._settings.public_url}; signatures of the future are refused",
            "Set this machine's clock: timedatectl set-ntp true",
        )

    def _preflight(self, entry: str, origin: str, method: str, headers: Collection[str]) -> httpx.Headers:
        url = f"{self._settings.public_url}/{self._bucket(entry)}/{self.prefix}preflight"
        wanted = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": ",".join(sorted(name.lower() for name in headers)),
        }
        return self._http.options(url, headers=wanted).headers

    def _preflight_allowed(self) -> _Seen:
        sent = {"Content-Type", *_headers_for(CONTENT)}
        return self._preflight_seen("uploads", "PUT", sent)

    def _preflight_artifacts(self) -> _Seen:
        return self._preflight_seen("artifacts", "GET", {"Range"})

    def _preflight_seen(self, entry: str, method: str, sent: Collection[str]) -> _Seen:
        if not self._origins:
            return _failed("no origin is allowed", "Set ALLOWED_ORIGINS to the addresses of the web pages.")
        for origin in self._origins:
            answer = self._preflight(entry, origin, method, sent)
            allowed = _names(answer.get("access-control-allow-headers", ""))
            lacking = sorted(name for name in sent if name.lower() not in allowed)
            if answer.get("access-control-allow-origin") not in {origin, "*"}:
                return _failed(f"{origin} is refused", self._cors_fix(entry))
            if method.lower() not in _names(answer.get("access-control-allow-methods", "")):
                return _failed(f"{origin} may not {method}", self._cors_fix(entry))
            if lacking and "*" not in allowed:
                return _failed(f"{origin} may not send {', '.join(lacking)}", self._cors_fix(entry))
        return _ok(f"{', '.join(self._origins)} may {method} with our headers")

    def _preflight_refused(self) -> _Seen:
        stranger = f"https://{uuid.uuid4()}.example"
        allowed = self._preflight("uploads", stranger, "PUT", {"Content-Type"}).get("access-control-allow-origin")
        if allowed in {stranger, "*"}:
            return _failed("every origin is allowed", self._cors_fix("uploads"))
        return _ok("an origin that is not configured is refused")

    def _exposed_headers(self) -> _Seen:
        if not self._origins:
            return _unknown("because of cors.allowed-origin")
        answer = self._put("exposed", CONTENT, further={"Origin": self._origins[0]})
        exposed = _names(answer.headers.get("access-control-expose-headers", ""))
        wanted: Sequence[str] = self._expected["uploads"]["cors"]["response_headers"]
        hidden = [name for name in wanted if name.lower() not in exposed]
        if hidden and "*" not in exposed:
            return _failed(f"scripts cannot read {', '.join(hidden)}", self._cors_fix("uploads"))
        return _ok("scripts can read what the client needs")

    def _cors_fix(self, entry: str) -> str:
        cors = self._expected[entry]["cors"]
        rule = {
            "origin": self._origins,
            "method": cors["methods"],
            "responseHeader": cors["response_headers"],
            "maxAgeSeconds": cors["max_age_seconds"],
        }
        return f"printf %s {shlex.quote(json.dumps([rule]))} > cors.json && " + self._update(
            entry, "--cors-file=cors.json"
        )

    # Signed PUTs

    def _signing(self) -> _Seen:
        signer = self._settings.signer_key_file or self._settings.signer_email
        try:
            self._signer.sign("PUT", self.prefix + "signed")
        except (*_BROKEN_OFF, OSError, ValueError) as error:
            return _failed(
                f"{signer} cannot sign: {_words(error)}",
                f"gcloud iam service-accounts add-iam-policy-binding {self._settings.signer_email} "
                "--member=serviceAccount:ACCOUNT --role=roles/iam.serviceAccountTokenCreator"
                if self._settings.signer_email
                else "Check SIGNER_KEY_FILE: a service account's key as JSON.",
            )
        return _ok(f"{signer} signs")

    def _put(
        self,
        name: str,
        content: bytes,
        *,
        signed: Mapping[str, str] | None = None,
        sent: Mapping[str, str] | None = None,
        further: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Sign the headers of a chunk with CONTENT, or `signed`, and PUT with those, or with `sent`."""
        request = self._signer.sign("PUT", self.prefix + name, headers=signed or _headers_for(CONTENT))
        return self._send(request, content, request.headers if sent is None else sent, further)

    def _send(
        self,
        request: SignedUrl,
        content: bytes,
        headers: Mapping[str, str],
        further: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        return self._http.put(request.url, content=content, headers={**headers, **(further or {})})

    def _put_taken(self) -> _Seen:
        answer = self._put("put", CONTENT)
        if answer.is_success and self._stored("put"):
            return _ok("a chunk is stored")
        return _failed(
            f"a good chunk was answered {answer.status_code}: {_error_code(answer)}",
            "The signer needs storage.objects.create on the bucket (roles/storage.objectUser), STORAGE_PUBLIC_URL must "
            "lead to it, and this clock must be right.",
        )

    def _put_of_length(self, n_bytes: int) -> _Seen:
        name = f"length-{n_bytes}"
        content = (CONTENT * 2)[:n_bytes]
        # Signed without a checksum, so that only the length is wrong.
        signed = {name: value for name, value in _headers_for(CONTENT).items() if name != "x-goog-hash"}
        answer = self._put(name, content, signed=signed)
        return self._refusal(name, answer, {400}, f"{n_bytes} bytes instead of {len(CONTENT)}")

    def _put_twice(self) -> _Seen:
        first = self._put("twice", CONTENT)
        before = self._stored("twice")
        if not first.is_success or not before:
            return _failed(f"the first write was answered {first.status_code}", self._proxy_fix())
        answer = self._put("twice", CONTENT)
        after = self._stored("twice")
        if answer.status_code == 412 and after == before:
            return _ok("the second write is refused with 412")
        return _failed(f"the second write was answered {answer.status_code}, not 412", self._proxy_fix())

    def _put_without_header(self) -> _Seen:
        signed = _headers_for(CONTENT)
        sent = {name: value for name, value in signed.items() if name != "x-goog-content-length-range"}
        return self._refusal(
            "lacking", self._put("lacking", CONTENT, sent=sent), {400, 403}, "a signed header left out"
        )

    def _put_with_other_header(self) -> _Seen:
        sent = {**_headers_for(CONTENT), "x-goog-content-length-range": "0,1000000"}
        return self._refusal("other", self._put("other", CONTENT, sent=sent), {400, 403}, "a signed header changed")

    def _put_elsewhere(self) -> _Seen:
        request = self._signer.sign("PUT", self.prefix + "here", headers=_headers_for(CONTENT))
        url = request.url.replace(quote(self.prefix + "here"), quote(self.prefix + "elsewhere"))
        answer = self._send(replace(request, url=url), CONTENT, request.headers)
        return self._refusal("elsewhere", answer, {400, 403}, "an address changed after signing")

    def _put_expired(self) -> _Seen:
        settings = self._settings._replace(signed_url_seconds=SHORT_LIFE_S)
        request = GcsUrlSigner(settings, settings.uploads_bucket).sign(
            "PUT", self.prefix + "expired", headers=_headers_for(CONTENT)
        )
        # Times are signed in whole seconds.
        self._sleep(SHORT_LIFE_S + 1.1)
        answer = self._send(request, CONTENT, request.headers)
        return self._refusal("expired", answer, {400, 403}, "an expired address")

    def _put_with_wrong_checksum(self) -> _Seen:
        headers = {**_headers_for(CONTENT), "x-goog-hash": f"crc32c={_wrong_crc32c(CONTENT)}"}
        return self._refusal("damaged", self._put("damaged", CONTENT, signed=headers), {400}, "a wrong crc32c")

    def _refusal(self, name: str, answer: httpx.Response, statuses: Collection[int], what: str) -> _Seen:
        if self._stored(name):
            return _failed(f"{what}: stored, and answered {answer.status_code}", self._proxy_fix())
        if answer.status_code not in statuses:
            expected = " or ".join(str(status) for status in sorted(statuses))
            return _failed(f"{what}: answered {answer.status_code} instead of {expected}", self._proxy_fix())
        return _ok(f"{what}: refused with {answer.status_code} {_error_code(answer)}".rstrip())

    def _stored(self, name: str) -> Sequence[StoredObject]:
        return self._store.list(self.prefix + name)

    def _proxy_fix(self) -> str:
        return (
            f"What answers at {self._settings.public_url} does not hold requests to what was signed: "
            f"set STORAGE_PUBLIC_URL to {GOOGLE_STORAGE}, without a proxy or CDN before it."
        )

    # Compose and delete

    def _written(self, name: str, content: bytes) -> StoredObject:
        return self._store.write(self.prefix + name, content, CONTENT_TYPE)

    def _content(self, name: str) -> bytes:
        return b"".join(self._store.read(self.prefix + name))

    def _compose(self) -> _Seen:
        parts = [self._written("part-0", b"a"), self._written("part-1", b"b")]
        composed = self._store.compose(parts, self.prefix + "composed", CONTENT_TYPE)
        crc32c = encode_crc32c(google_crc32c.value(b"ab"))
        if composed.size_bytes == 2 and composed.crc32c == crc32c and self._content("composed") == b"ab":
            return _ok("two objects are joined, and the crc32c is right")
        return _failed(
            f"joined to {composed.size_bytes} bytes with crc32c {composed.crc32c}, not 2 bytes with {crc32c}",
            self._api_fix(),
        )

    def _compose_stale_source(self) -> _Seen:
        stale = replace(self._store.stat(self.prefix + "part-0"), generation=1)
        try:
            self._store.compose([stale], self.prefix + "from-stale", CONTENT_TYPE)
        except (ObjectExistsError, ObjectNotFoundError):
            if not self._stored("from-stale"):
                return _ok("a source of another generation is refused")
        return _failed("a source was used though its generation is another", self._api_fix())

    def _compose_existing_destination(self) -> _Seen:
        part, before = self._store.stat(self.prefix + "part-0"), self._written("taken", b"kept")
        try:
            self._store.compose([part], before.name, CONTENT_TYPE)
        except ObjectExistsError:
            if self._content("taken") == b"kept":
                return _ok("a destination that exists is refused")
        return _failed("an object that existed was overwritten", self._api_fix())

    def _compose_with_wrong_checksum(self) -> _Seen:
        """Nobody relies on it; documented for gRPC only."""
        name = self.prefix + "declared"
        answer = self._http.post(
            f"{self._api}/b/{self._settings.uploads_bucket}/o/{quote(name, safe='')}/compose",
            params={"ifGenerationMatch": "0"},
            headers=self._authorization,
            json={
                "sourceObjects": [{"name": self.prefix + "part-0"}],
                "destination": {"contentType": CONTENT_TYPE, "crc32c": _wrong_crc32c(b"a")},
            },
        )
        words = "ignored" if answer.is_success else f"refused with {answer.status_code}"
        return _Seen(
            Verdict.INFORMATION, f"a wrong destination.crc32c in a compose is {words}; the functions compare it"
        )

    def _delete_stale(self) -> _Seen:
        current = self._written("delete", CONTENT)
        self._store.delete([replace(current, generation=current.generation - 1)])
        if self._stored("delete"):
            return _ok("an object of another generation is not deleted")
        return _failed("an object was deleted though its generation is another", self._api_fix())

    def _api_fix(self) -> str:
        where = "STORAGE_EMULATOR_HOST is set; unset it, or point it" if self._emulator else "Point the functions"
        return f"{self._api} ignores preconditions. {where} at a storage API that enforces them."

    def clean_up(self) -> Point:
        """Delete what was written; repeating it is harmless."""
        if "bucket.uploads" in self._without:
            return Point("cleanup", Verdict.OK, "nothing was written")
        fix = f"gcloud storage rm --recursive gs://{self._settings.uploads_bucket}/{self.prefix}"
        try:
            n_deleted = self._store.delete(self._store.list(self.prefix))
            left = self._store.list(self.prefix)
        except _BROKEN_OFF as error:
            return Point("cleanup", Verdict.FAILED, f"what was written may still be there: {_words(error)}", fix)
        if left:
            return Point("cleanup", Verdict.FAILED, f"{len(left)} objects cannot be deleted", fix)
        return Point("cleanup", Verdict.OK, f"{n_deleted} objects deleted")


def _ok(finding: str) -> _Seen:
    return _Seen(Verdict.OK, finding)


def _failed(finding: str, fix: str) -> _Seen:
    return _Seen(Verdict.FAILED, finding, fix)


def _unknown(reason: str) -> _Seen:
    return _Seen(Verdict.UNKNOWN, reason)


def _words(error: BaseException) -> str:
    """Return what an error says, and what it was made of."""
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    return f"{type(error).__name__}: {error}{cause}"


def _headers_for(content: bytes) -> dict[str, str]:
    """Return the headers that sign_chunks signs for a chunk."""
    return {
        "x-goog-content-length-range": f"{len(content)},{len(content)}",
        "x-goog-if-generation-match": "0",
        "x-goog-hash": f"crc32c={encode_crc32c(google_crc32c.value(content))}",
    }


def _wrong_crc32c(content: bytes) -> str:
    return base64.b64encode((google_crc32c.value(content) ^ 1).to_bytes(4, "big")).decode()


def _names(header: str) -> set[str]:
    return {name.strip().lower() for name in header.split(",") if name.strip()}


def _error_code(answer: httpx.Response) -> str:
    """Return the code of Cloud Storage's XML error."""
    return answer.text.partition("<Code>")[2].partition("</Code>")[0]


def _deletes_live_objects(rule: Mapping[str, Any]) -> bool:
    condition = rule.get("condition", {})
    is_noncurrent = condition.get("isLive") is False or bool(_NONCURRENT & set(condition))
    return rule.get("action", {}).get("type") == "Delete" and not is_noncurrent


def _canonical(rule: Mapping[str, Any]) -> str:
    condition = dict(rule.get("condition", {}))
    if "matchesPrefix" in condition:
        condition["matchesPrefix"] = sorted(condition["matchesPrefix"])
    return json.dumps(condition, sort_keys=True)

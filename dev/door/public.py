"""The door that browsers and other holders of signed URLs knock at.

The gateway asks `authorize` before a body is sent and lets the bytes flow past this process: an upload
goes to a nameless object, and `commit` gives it its name if, at that moment, everything that was signed
still holds. So two uploads of a write-once name cannot both succeed, and one that was cut off or damaged
leaves nothing.
"""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dev.door.emulator import INCOMING_BUCKET, Emulator, ObjectName
from dev.door.files import ObjectFiles, UnstorableNameError, changes_for
from dev.door.rules import CorsRule
from dev.door.signature import RefusedError, SignedRequest, verify

LENGTH_RANGE = re.compile(r"(\d+),(\d+)")
CRC32C = re.compile(r"crc32c=([A-Za-z0-9+/]{6}==)")
MD5 = re.compile(r"md5=([A-Za-z0-9+/]{22}==)")
METADATA_PREFIX = "x-goog-meta-"

# The client may still be sending when it is refused; reading on lets it see the answer instead of a reset.
DRAINED_BYTES = 64 * 1024 * 1024


class PublicDoor:
    """Decides about requests to signed URLs."""

    def __init__(
        self,
        emulator: Emulator,
        files: ObjectFiles,
        cors: Mapping[str, CorsRule],
        signer_email: str,
        signer_key: rsa.RSAPublicKey,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._emulator = emulator
        self._files = files
        self._cors = cors
        self._email = signer_email
        self._key = signer_key
        self._clock = clock

    async def answer(self, request: Request, step: str) -> Response:
        """Answer one of the gateway's questions, or a browser's request that carries no bytes.

        Args:
            step: `authorize` before bytes flow, `commit` after an upload has arrived, anything else for a
                request that is to be answered here.
        """
        steps: dict[str, Callable[[Request, SignedRequest, ObjectName], Awaitable[Response]]] = {
            "authorize": self._authorize,
            "commit": self._commit,
        }
        signed = _signed_request(request)
        target = _target(signed)
        try:
            if signed.method == "OPTIONS":
                return self._preflight(signed, target)
            answer = await steps.get(step, self._serve)(request, signed, target)
        except RefusedError as refusal:
            if step != "authorize":
                await _drain(request)
            answer = _refusal(refusal)
        answer.headers.update(self._cors_headers(signed, target))
        return answer

    async def _authorize(self, _: Request, signed: SignedRequest, target: ObjectName) -> Response:
        self._check(signed, target)
        if signed.method == "PUT":
            upload = f"/upload/storage/v1/b/{INCOMING_BUCKET}/o?uploadType=media&name={uuid.uuid4()}"
            return Response(headers={"X-Door-Method": "POST", "X-Door-Uri": upload})
        resource = self._existing(target, signed)
        overrides = _overrides(signed)
        cors = self._cors_headers(signed, target)
        # The gateway cannot tell a header that is missing, only one that is empty.
        headers = {
            "X-Door-Uri": f"/download{target.path}?alt=media&generation={resource['generation']}",
            "X-Door-Disposition": overrides.get("Content-Disposition", ""),
            "X-Door-Type": overrides.get("Content-Type", ""),
            "X-Door-Origin": cors.get("Access-Control-Allow-Origin", ""),
            "X-Door-Expose": cors.get("Access-Control-Expose-Headers", ""),
        }
        return Response(headers=headers)

    async def _commit(self, request: Request, signed: SignedRequest, target: ObjectName) -> Response:
        """Give an upload that has arrived whole its name, or remove it."""
        if request.headers["x-upstream-status"] != "200":
            raise RefusedError(500, "InternalError", "The emulator could not store the object.")
        stored = ObjectName(INCOMING_BUCKET, _upload_id(request.headers["x-door-uri"]))
        try:
            uploaded = self._files.resource(stored)
            if uploaded is None:
                raise RefusedError(500, "InternalError", "The upload is gone.")
            _check_hashes(signed, uploaded)
            async with self._emulator.lock(target):
                self._check_precondition(signed, target)
                custom = {
                    name.removeprefix(METADATA_PREFIX): value
                    for name, value in signed.headers.items()
                    if name.startswith(METADATA_PREFIX)
                }
                kind = signed.headers.get("content-type", "application/octet-stream")
                try:
                    await asyncio.to_thread(self._files.publish, stored, target, changes_for(kind, custom))
                except UnstorableNameError as error:
                    raise RefusedError(400, "InvalidObjectName", str(error)) from error
                resource = self._files.existing(target)
        finally:
            await asyncio.to_thread(self._files.delete, stored)
        return _with_object_headers(Response(), resource)

    async def _serve(self, _: Request, signed: SignedRequest, target: ObjectName) -> Response:
        """Answer what carries no object: HEAD, DELETE, and requests that were refused."""
        if signed.method not in {"GET", "HEAD", "PUT", "DELETE"}:
            details = "Signed URLs take GET, HEAD, PUT and DELETE."
            raise RefusedError(405, "MethodNotAllowed", "The specified method is not allowed.", details)
        self._check(signed, target)
        if signed.method == "HEAD":
            resource = self._existing(target, signed)
            answer = _with_object_headers(Response(), resource)
            answer.headers["Content-Type"] = resource.get("contentType", "application/octet-stream")
            answer.headers["Content-Length"] = resource["size"]
            answer.headers["Accept-Ranges"] = "bytes"
            answer.headers.update(_overrides(signed))
            return answer
        if signed.method == "DELETE":
            async with self._emulator.lock(target):
                self._existing(target, signed)
                self._check_precondition(signed, target)
                await asyncio.to_thread(self._files.delete, target)
            return Response(status_code=204)
        if signed.method == "GET":
            self._existing(target, signed)
        # It was refused a moment ago and would be let in now; the body is on its way, too late to send it on.
        raise RefusedError(503, "ServiceUnavailable", "Try again.")

    def _check(self, signed: SignedRequest, target: ObjectName) -> None:
        verify(signed, self._email, self._key, self._clock())
        if not target.name or target.bucket == INCOMING_BUCKET:
            raise RefusedError(403, "AccessDenied", "Access denied.", "Signed URLs name a bucket and an object.")
        if not self._files.has_bucket(target.bucket):
            raise RefusedError(404, "NoSuchBucket", "The specified bucket does not exist.")
        if signed.method == "PUT":
            _check_length(signed)
            _check_hash_syntax(signed)
            self._check_precondition(signed, target)

    def _check_precondition(self, signed: SignedRequest, target: ObjectName) -> None:
        wanted = signed.headers.get("x-goog-if-generation-match")
        if wanted is None:
            return
        if not wanted.isdecimal():
            raise RefusedError(400, "InvalidArgument", "Invalid argument.", "x-goog-if-generation-match")
        resource = self._files.resource(target)
        if int(wanted) != int(resource["generation"] if resource else 0):
            message = "At least one of the pre-conditions you specified did not hold."
            raise RefusedError(412, "PreconditionFailed", message)

    def _existing(self, target: ObjectName, signed: SignedRequest) -> dict[str, Any]:
        resource = self._files.resource(target)
        if resource is None or _parameter(signed, "generation") not in {None, resource["generation"]}:
            details = f"No such object: {target.bucket}/{target.name}"
            raise RefusedError(404, "NoSuchKey", "The specified key does not exist.", details)
        return resource

    def _preflight(self, signed: SignedRequest, target: ObjectName) -> Response:
        rule = self._cors.get(target.bucket)
        wanted = [
            name.strip().lower()
            for name in signed.headers.get("access-control-request-headers", "").split(",")
            if name.strip()
        ]
        method = signed.headers.get("access-control-request-method", "")
        origin = signed.headers.get("origin", "")
        return Response(headers=rule.preflight_headers(origin, method, wanted) if rule else {})

    def _cors_headers(self, signed: SignedRequest, target: ObjectName) -> dict[str, str]:
        rule = self._cors.get(target.bucket)
        return rule.response_headers_for(signed.headers.get("origin", ""), signed.method) if rule else {}


def _signed_request(request: Request) -> SignedRequest:
    """Return the client's request as the gateway describes it."""
    path, _, query = request.headers["x-client-uri"].partition("?")
    headers = {
        name: value
        for name, value in request.headers.items()
        if not name.startswith(("x-door", "x-client-", "x-forwarded-", "x-upstream-"))
    }
    headers.pop("content-length", None)
    if request.headers.get("x-client-content-length"):
        headers["content-length"] = request.headers["x-client-content-length"]
    return SignedRequest(request.headers["x-client-method"], path, query, headers)


def _target(signed: SignedRequest) -> ObjectName:
    bucket, _, name = signed.path.removeprefix("/").partition("/")
    return ObjectName(unquote(bucket), unquote(name))


def _check_length(signed: SignedRequest) -> None:
    length = signed.headers.get("content-length", "")
    if not length.isdecimal():
        raise RefusedError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    allowed = signed.headers.get("x-goog-content-length-range")
    if allowed is None:
        return
    match = LENGTH_RANGE.fullmatch(allowed)
    if not match:
        raise RefusedError(400, "InvalidArgument", "Invalid argument.", "x-goog-content-length-range")
    lowest, highest = map(int, match.groups())
    if int(length) < lowest:
        raise RefusedError(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum size.")
    if int(length) > highest:
        raise RefusedError(400, "EntityTooLarge", "Your proposed upload is larger than the maximum size.")


def _check_hash_syntax(signed: SignedRequest) -> None:
    for part in signed.headers.get("x-goog-hash", "").split(","):
        if part.strip() and not (CRC32C.fullmatch(part.strip()) or MD5.fullmatch(part.strip())):
            raise RefusedError(400, "InvalidDigest", "The hash you specified is not valid.", part.strip())


def _check_hashes(signed: SignedRequest, uploaded: Mapping[str, Any]) -> None:
    wanted = signed.headers.get("x-goog-hash", "")
    for pattern, field in ((CRC32C, "crc32c"), (MD5, "md5Hash")):
        match = pattern.search(wanted)
        if match and match.group(1) != uploaded[field]:
            message = f"The {field} you specified in x-goog-hash did not match what we computed."
            raise RefusedError(400, "BadDigest", message, f"Computed: {uploaded[field]}")


def _overrides(signed: SignedRequest) -> dict[str, str]:
    """Return the response headers that a signed URL asks for."""
    parameters = parse_qs(signed.query)
    headers = {"Content-Disposition": "response-content-disposition", "Content-Type": "response-content-type"}
    return {header: parameters[parameter][0] for header, parameter in headers.items() if parameter in parameters}


def _parameter(signed: SignedRequest, name: str) -> str | None:
    return parse_qs(signed.query).get(name, [None])[0]


def _upload_id(uri: str) -> str:
    return parse_qs(uri.partition("?")[2])["name"][0]


def _with_object_headers(answer: Response, resource: Mapping[str, Any]) -> Response:
    answer.headers["ETag"] = f'"{resource.get("md5Hash") or resource["etag"]}"'
    answer.headers["x-goog-generation"] = resource["generation"]
    answer.headers["x-goog-metageneration"] = resource.get("metageneration", "1")
    answer.headers["x-goog-stored-content-length"] = resource["size"]
    answer.headers["x-goog-stored-content-encoding"] = "identity"
    answer.headers.append("x-goog-hash", f"crc32c={resource['crc32c']}")
    if resource.get("md5Hash"):
        answer.headers.append("x-goog-hash", f"md5={resource['md5Hash']}")
    for name, value in resource.get("metadata", {}).items():
        answer.headers[METADATA_PREFIX + name] = quote(value)
    return answer


def _refusal(refusal: RefusedError) -> Response:
    details = f"<Details>{escape(refusal.details)}</Details>" if refusal.details else ""
    body = (
        "<?xml version='1.0' encoding='UTF-8'?>"
        f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>{details}</Error>"
    )
    answer = Response(body, status_code=refusal.status, media_type="application/xml")
    if refusal.status == 503:
        answer.headers["Retry-After"] = "1"
    return answer


async def _drain(request: Request) -> None:
    """Read what the client is still sending, within bounds."""
    read = 0
    try:
        async for piece in request.stream():
            read += len(piece)
            if read > DRAINED_BYTES:
                return
    except ClientDisconnect:
        return

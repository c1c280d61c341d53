"""The door of the functions: the JSON API, held to the preconditions that the emulator ignores.

Plain reads of objects never come here (the gateway passes them on). Every change of an object happens under the lock
of its name, the same lock that the public door takes.
"""

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dev.door import batch
from dev.door.emulator import Emulator, ObjectName
from dev.door.files import ObjectFiles, UnstorableNameError, changes_for

OBJECT = re.compile(r"(?:/download)?/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)(?P<action>/[^?]*)?")
UPLOAD = re.compile(r"/(?:resumable/)?upload/storage/v1/b/(?P<bucket>[^/]+)/o/?")
LISTING = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)/o/?")
COPY = re.compile(r"/(?:rewriteTo|copyTo)/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")
BATCH = "/batch/storage/v1"

# https://cloud.google.com/storage/docs/composite-objects
MOST_COMPOSE_SOURCES = 32
MOST_METADATA_BYTES = 1024 * 1024
LISTING_TRIES = 100
LISTING_PAUSE_S = 0.02
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-door"}

Body = AsyncIterator[bytes]


class ApiError(Exception):
    """An error of the JSON API."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    def response(self) -> Response:
        """Return the error as the JSON API writes it."""
        if self.status == httpx.codes.NOT_MODIFIED:
            return Response(status_code=self.status)
        error = {"message": self.message, "domain": "global", "reason": self.reason}
        document = {"error": {"code": self.status, "message": self.message, "errors": [error]}}
        return Response(json.dumps(document), status_code=self.status, media_type="application/json")


class InternalDoor:
    """Answers the JSON API on behalf of the emulator."""

    def __init__(self, emulator: Emulator, files: ObjectFiles) -> None:
        self._emulator = emulator
        self._files = files
        # Resumable uploads under way: what they will become, and on which condition.
        self._resumable: dict[str, tuple[ObjectName, dict[str, str]]] = {}

    async def answer(self, request: Request, step: str) -> Response:
        """Answer one request of the functions.

        Args:
            step: `authorize` for a conditional read whose bytes the gateway itself will pass on, `list` for a listing.
        """
        body = request.stream()
        try:
            if step == "authorize":
                return await self._check_read(request)
            if step == "list":
                return await self._list(request, body)
            return await self._dispatch(request, body)
        except ApiError as error:
            with contextlib.suppress(ClientDisconnect):
                await _read(body)
            return error.response()
        except ClientDisconnect:
            return Response(status_code=499)

    async def _check_read(self, request: Request) -> Response:
        if match := OBJECT.fullmatch(_path(request)):
            named = ObjectName(unquote(match["bucket"]), unquote(match["name"]))
            current = self._files.resource(named)
            if current is None:
                raise _not_found(named)
            check(current, _query(request), "GET")
        return Response()

    async def _list(self, request: Request, body: Body) -> Response:
        """List, however much is deleted meanwhile.

        The emulator answers 404 where a file goes between its looks at the folder and at the file; Cloud Storage's
        listings are consistent.
        """
        match = LISTING.fullmatch(_path(request))
        is_there = match is not None and self._files.has_bucket(unquote(match["bucket"]))
        for _ in range(LISTING_TRIES if is_there else 0):
            answer = await self._forward(request, body)
            if answer.status_code != httpx.codes.NOT_FOUND:
                return answer
            await asyncio.sleep(LISTING_PAUSE_S)
        return await self._forward(request, body)

    async def _dispatch(self, request: Request, body: Body) -> Response:
        path, query = _path(request), _query(request)
        if path == BATCH:
            return await self._batch(request, body)
        if "upload_id" in query:
            return await self._continue_upload(request, body, query["upload_id"])
        if match := UPLOAD.fullmatch(path):
            return await self._upload(request, body, unquote(match["bucket"]))
        if match := OBJECT.fullmatch(path):
            named = ObjectName(unquote(match["bucket"]), unquote(match["name"]))
            action = match["action"] or ""
            if action == "/compose":
                return await self._compose(request, body, named)
            return await self._change(request, body, named, action)
        return await self._forward(request, body)

    async def _change(self, request: Request, body: Body, named: ObjectName, action: str) -> Response:
        if copy := COPY.fullmatch(action):
            named = ObjectName(unquote(copy["bucket"]), unquote(copy["name"]))
        async with self._emulator.lock(named):
            current = self._files.resource(named)
            if current is None and not copy:
                raise _not_found(named)
            check(current, _query(request), request.method)
            if request.method == "DELETE":
                await asyncio.to_thread(self._files.delete, named)
                return Response(status_code=204)
            return await self._forward(request, body)

    async def _batch(self, request: Request, body: Body) -> Response:
        try:
            calls = batch.parse(request.headers.get("content-type", ""), await _read(body))
        except ValueError as error:
            raise ApiError(400, "badRequest", str(error)) from error
        # In no particular order, as Cloud Storage does it.
        given = await asyncio.gather(*(self.answer(_request_of(call, request), "") for call in calls))
        answers = [(call, answer.status_code, bytes(answer.body)) for call, answer in zip(calls, given, strict=True)]
        boundary = uuid.uuid4().hex
        return Response(batch.render(boundary, answers), media_type=f"multipart/mixed; boundary={boundary}")

    async def _upload(self, request: Request, body: Body, bucket: str) -> Response:
        query = _query(request)
        kind = query.get("uploadType", "")
        name = query.get("name")
        if kind == "multipart":
            resource, body = await _first_part(body, request.headers.get("content-type", ""))
            name = name or resource.get("name")
        elif kind == "resumable":
            content = await _read(body)
            name = name or _json(content or b"{}").get("name")
            body = _once(content)
        if not name:
            raise ApiError(400, "required", "Required parameter: name")
        target = ObjectName(bucket, name)
        async with self._emulator.lock(target):
            try:
                check(self._files.resource(target), query, "PUT")
            except ApiError:
                await _read(body)
                raise
            answer = await self._forward(request, body)
        if kind == "resumable" and "location" in answer.headers:
            upload_id = parse_qs(answer.headers["location"].partition("?")[2])["upload_id"][0]
            self._resumable[upload_id] = (target, query)
        return answer

    async def _continue_upload(self, request: Request, body: Body, upload_id: str) -> Response:
        if upload_id not in self._resumable:
            return await self._forward(request, body)
        target, query = self._resumable[upload_id]
        async with self._emulator.lock(target):
            check(self._files.resource(target), query, "PUT")
            answer = await self._forward(request, body)
        if answer.status_code == httpx.codes.OK:
            del self._resumable[upload_id]
        return answer

    async def _compose(self, request: Request, body: Body, target: ObjectName) -> Response:
        """Put objects together; the emulator itself would ignore preconditions and hold all bytes in memory."""
        document = _json(await _read(body))
        parts = document.get("sourceObjects") or []
        if not 1 <= len(parts) <= MOST_COMPOSE_SOURCES:
            message = f"The number of source components provided ({len(parts)}) must be from 1 to 32."
            raise ApiError(400, "invalid", message)
        fields = document.get("destination") or {}
        changes = changes_for(fields.get("contentType") or "application/octet-stream", fields.get("metadata") or {})
        async with self._emulator.lock(target):
            check(self._files.resource(target), _query(request), "PUT")
            sources = [self._source(target.bucket, part) for part in parts]
            try:
                await asyncio.to_thread(self._files.join, sources, target, changes)
            except UnstorableNameError as error:
                raise ApiError(400, "invalid", str(error)) from error
            if document.get("deleteSourceObjects"):
                for source in set(sources):
                    await asyncio.to_thread(self._files.delete, source)
            resource = self._files.existing(target)
        return Response(json.dumps(resource), media_type="application/json")

    def _source(self, bucket: str, part: Mapping[str, Any]) -> ObjectName:
        """Return a source that is there in the wanted generation."""
        source = ObjectName(bucket, part.get("name", ""))
        resource = self._files.resource(source)
        if resource is None:
            raise _not_found(source)
        check(resource, part, "PUT")
        check(resource, part.get("objectPreconditions") or {}, "PUT")
        return source

    async def _forward(self, request: Request, body: Body) -> Response:
        uri = _path(request) + (f"?{request.url.query}" if request.url.query else "")
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        has_body = "content-length" in headers or "transfer-encoding" in request.headers
        answer = await self._emulator.http.request(
            request.method, uri, headers=headers, content=body if has_body else None
        )
        dropped = {*HOP_BY_HOP, "content-length", "content-encoding"}
        kept = {name: value for name, value in answer.headers.items() if name not in dropped}
        return Response(answer.content, status_code=answer.status_code, headers=kept)


def check(current: Mapping[str, Any] | None, conditions: Mapping[str, Any], method: str) -> None:
    """Hold an object to the preconditions of a request.

    https://docs.cloud.google.com/storage/docs/request-preconditions

    Args:
        current: the object's resource, None if there is no such object.
        conditions: query parameters, or a compose source and its objectPreconditions.

    Raises:
        ApiError: 412 if one does not hold; 304 for a read of an object that has not changed.
    """
    for prefix, field in (("ifGeneration", "generation"), ("ifMetageneration", "metageneration")):
        actual = int((current or {}).get(field, 0))
        if f"{prefix}Match" in conditions and _number(conditions, f"{prefix}Match") != actual:
            raise _not_met()
        if f"{prefix}NotMatch" in conditions and _number(conditions, f"{prefix}NotMatch") == actual:
            raise ApiError(304, "notModified", "Not modified.") if method == "GET" else _not_met()
    if current and "generation" in conditions and _number(conditions, "generation") != int(current["generation"]):
        raise ApiError(404, "notFound", f"No such object: generation {conditions['generation']}")


def _number(conditions: Mapping[str, Any], name: str) -> int:
    try:
        return int(conditions[name])
    except ValueError as error:
        raise ApiError(400, "invalid", f"Invalid value for {name}.") from error


def _not_met() -> ApiError:
    return ApiError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def _not_found(named: ObjectName) -> ApiError:
    return ApiError(404, "notFound", f"No such object: {named.bucket}/{named.name}")


def _path(request: Request) -> str:
    """Return the path as sent: a slash within an object's name is %2F there."""
    path: bytes = request.scope["raw_path"]
    return path.decode()


def _query(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.url.query, keep_blank_values=True).items()}


def _request_of(call: batch.Call, request: Request) -> Request:
    """Return a call of a batch as a request of its own."""
    headers = [*call.headers, ("host", request.headers["host"])]
    scope = {
        **request.scope,
        "method": call.method,
        "path": unquote(call.path),
        "raw_path": call.path.encode(),
        "query_string": call.query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": call.body, "more_body": False}

    return Request(scope, receive)


def _json(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise ApiError(400, "parseError", "Parse Error") from error
    if not isinstance(document, dict):
        raise ApiError(400, "parseError", "Parse Error")
    return document


async def _read(body: Body) -> bytes:
    return b"".join([piece async for piece in body])


async def _once(content: bytes) -> Body:
    yield content


async def _first_part(body: Body, content_type: str) -> tuple[dict[str, Any], Body]:
    """Read the resource that leads a multipart upload.

    Returns:
        The resource, and the whole body again, from its first byte.
    """
    match = re.search(r'boundary="?([^";]+)"?', content_type)
    if not match:
        raise ApiError(400, "badContent", "A multipart upload needs a boundary.")
    delimiter = b"--" + match[1].encode()
    start = b""
    while start.count(delimiter) < 2:
        piece = await anext(body, b"")
        if not piece or len(start) > MOST_METADATA_BYTES:
            raise ApiError(400, "badContent", "A multipart upload has two parts.")
        start += piece
    part = start.split(delimiter)[1]
    _, _, resource = part.replace(b"\r\n", b"\n").partition(b"\n\n")

    async def replayed() -> Body:
        yield start
        async for piece in body:
            yield piece

    return _json(resource), replayed()

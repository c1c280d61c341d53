"""Functions of uploads: create, sign, get, assemble, the old upload-chunk, finalize.

Rules: shared/uploads.py (create, sign, get), shared/assembly.py (assemble, finalize), shared/legacy_chunks.py
(upload-chunk).
"""

import json
import os
from functools import cache
from typing import Any

from shared.adapters.csv_rows import CsvRowCounter
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase import SupabaseDatabase
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.api.requests.uploads import CreateUpload, FinalizeSession, SignChunks
from shared.assembly import AssemblyService
from shared.chunks import SignedChunk
from shared.errors import InvalidFieldError, InvalidRequestError
from shared.legacy_chunks import LegacyChunk, LegacyChunkService
from shared.records.uploads import Upload, UploadState
from shared.settings import buckets, storage_settings, supabase_settings
from shared.uploads import CLIENT_CONCURRENCY, TableView, UploadService
from shared.web.endpoint import Call, Reply, endpoint

# An assembly mostly takes seconds; asking sooner finds nothing new.
ASK_AGAIN_S = 2


# Services are built on the first request that needs them; building one twice is harmless.


@cache
def database() -> SupabaseDatabase:
    """Build the way to the database, and its connections, for all services."""
    return SupabaseDatabase(supabase_settings(os.environ))


@cache
def store() -> GcsObjectStore:
    """Build the way to the uploads bucket."""
    return GcsObjectStore(buckets(os.environ).uploads)


@cache
def signer() -> GcsUrlSigner:
    """Build the signer of requests to the uploads bucket."""
    storage = storage_settings(os.environ)
    return GcsUrlSigner(storage, storage.uploads_bucket)


@cache
def upload_service() -> UploadService:
    """Build the service that plans, signs and resumes."""
    return UploadService(SupabaseUploads(database()), store(), signer(), assembly_service())


@cache
def assembly_service() -> AssemblyService:
    """Build the service that assembles and finalizes."""
    return AssemblyService(SupabaseUploads(database()), SupabaseSessions(database()), store(), CsvRowCounter())


@cache
def legacy_chunk_service() -> LegacyChunkService:
    """Build the service of old clients' chunks."""
    return LegacyChunkService(SupabaseUploads(database()), store(), signer(), assembly_service())


@endpoint
def create_upload(call: Call) -> Reply:
    """POST /uploads {sessionId, fileName, size, contentType?, sha256?, chunkSize?, presign?}: open an upload."""
    fields = call.body(CreateUpload)
    upload, chunks, is_new = upload_service().create(call.caller.user_id, fields)
    data = {
        **_upload_json(upload),
        "isNew": is_new,
        "concurrency": CLIENT_CONCURRENCY,
        "chunks": [_chunk_json(chunk) for chunk in chunks],
    }
    return Reply(201 if is_new else 200, data, {"Location": f"uploads/{upload.id}"})


@endpoint
def sign_chunks(call: Call) -> Reply:
    """POST /uploads/{upload_id}/chunks {chunks: [{index, crc32c?}]}: signed PUT requests, each good for one write."""
    body = call.body(SignChunks)
    upload, chunks = upload_service().sign_chunks(call.caller, call.path["upload_id"], body["chunks"])
    return Reply(
        200,
        {
            "uploadId": upload.id,
            "expiresAt": upload.expires_at.isoformat(),
            "chunks": [_chunk_json(chunk) for chunk in chunks],
        },
    )


@endpoint
def get_upload(call: Call) -> Reply:
    """GET /uploads/{upload_id}: what the bucket holds of an upload."""
    progress = upload_service().get(call.caller, call.path["upload_id"])
    received = [
        {"index": chunk.index, "size": chunk.stored.size_bytes, "crc32c": chunk.stored.crc32c}
        for chunk in progress.received
    ]
    return Reply(
        200,
        {
            **_upload_json(progress.upload),
            "concurrency": CLIENT_CONCURRENCY,
            "received": received,
            "receivedBytes": sum(chunk["size"] for chunk in received),
            "missing": list(progress.missing),
            "table": _table_json(progress.table) if progress.table else None,
        },
    )


@endpoint
def assemble_upload(call: Call) -> Reply:
    """POST /uploads/{upload_id}/assemble: make one verified object of the chunks."""
    call.body()
    upload = assembly_service().assemble(call.caller.user_id, call.path["upload_id"])
    if upload.state is UploadState.ASSEMBLED:
        return Reply(200, _upload_json(upload))
    return Reply(202, _upload_json(upload), {"Retry-After": str(ASK_AGAIN_S)})


@endpoint
def upload_chunk(call: Call) -> Reply:
    """POST /upload-chunk: a chunk as multipart (stored here), or its metadata as JSON (answers a signed request)."""
    owner = call.caller.user_id
    if call.request.mimetype != "multipart/form-data":
        upload, signed = legacy_chunk_service().sign(owner, _legacy_chunk(call.document()))
        return Reply(
            200,
            {
                "upload_id": upload.id,
                "chunk_index": signed.index,
                "total_chunks": upload.total_chunks,
                "state": upload.state,
                "chunk": _chunk_json(signed),
            },
        )
    sent = call.request.files.get("chunk")
    if sent is None:
        raise InvalidFieldError("chunk", "is missing from the form")
    chunk = _legacy_chunk(_form_metadata(call.request.form.get("metadata", "")))
    upload, n_received = legacy_chunk_service().store(owner, chunk, sent.read())
    return Reply(
        200,
        {
            "chunk_saved": True,
            "chunk_index": chunk.index,
            "total_chunks": upload.total_chunks,
            "progress": round(100 * n_received / upload.total_chunks, 2),
            "upload_id": upload.id,
            "state": upload.state,
        },
    )


@endpoint
def finalize_session(call: Call) -> Reply:
    """POST /finalize-session {sessionId}: close a session to uploads and sum up its rows."""
    body = call.body(FinalizeSession)
    session = assembly_service().finalize_session(call.caller, body["sessionId"])
    return Reply(
        200,
        {
            "session_id": session.session_id,
            "status": session.status,
            "n_dat": session.n_dat,
            "database_saved": True,
        },
    )


def _upload_json(upload: Upload) -> dict[str, Any]:
    return {
        "uploadId": upload.id,
        "sessionId": upload.session_id,
        "fileName": upload.file_name,
        "size": upload.size_bytes,
        "contentType": upload.content_type,
        "chunkSize": upload.chunk_size_bytes,
        "totalChunks": upload.total_chunks,
        "state": upload.state,
        "expiresAt": upload.expires_at.isoformat(),
        "crc32c": upload.crc32c,
        "sha256": upload.sha256,
        "nRows": upload.n_rows,
        "verifiedBytes": upload.verified_bytes if upload.state is UploadState.ASSEMBLING else None,
        "failure": upload.failure,
    }


def _table_json(table: TableView) -> dict[str, Any]:
    return {
        "delimiter": table.format.delimiter if table.format else None,
        "encoding": table.format.encoding if table.format else None,
        "compression": table.format.compression if table.format else None,
        "columns": [{"name": column.name, "type": column.type} for column in table.columns],
        "problem": {"code": table.problem.code, "detail": table.problem.message} if table.problem else None,
    }


def _chunk_json(chunk: SignedChunk) -> dict[str, Any]:
    return {
        "index": chunk.index,
        "size": chunk.size_bytes,
        "url": chunk.request.url,
        "method": chunk.request.method,
        "headers": chunk.request.headers,
    }


def _form_metadata(text: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidFieldError("metadata", "must be a JSON object") from error
    if not isinstance(metadata, dict):
        raise InvalidFieldError("metadata", "must be a JSON object")
    return metadata


def _legacy_chunk(metadata: dict[str, Any]) -> LegacyChunk:
    """Read what old clients send; they may send more, which is of no use here."""
    # Some of them send a JSON body with the metadata inside it, as the form does.
    inner = metadata.get("metadata", metadata)
    if not isinstance(inner, dict):
        raise InvalidRequestError("metadata must be an object.")
    return LegacyChunk(
        session_id=inner.get("sessionId"),
        file_name=inner.get("fileName"),
        index=inner.get("chunkIndex"),
        total_chunks=inner.get("totalChunks"),
    )

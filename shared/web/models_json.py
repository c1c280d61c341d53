"""Trained models as JSON, for the functions that list and save them."""

from dataclasses import asdict
from typing import Any

from shared.models import Listing, ModelEntry, total_bytes
from shared.records.documents import DocumentStatus
from shared.records.training import Conversion, ModelFile, Run
from shared.skew import needs_of, requirements_of

MIB = 1 << 20


def documents_json(session_id: str, listing: Listing) -> dict[str, Any]:
    """Return the members of a list that tell of legacy documents."""
    is_unread = {run_id: one.status is DocumentStatus.UNREAD for run_id, one in listing.documents.items()}
    return {
        "unread_documents": sum(is_unread.values()),
        "documents": [
            {
                "run_id": run_id,
                "status": document.status,
                "detail": document.detail,
                "read_by": f"POST /save-model/{session_id}" if is_unread[run_id] else None,
            }
            for run_id, document in listing.documents.items()
        ],
    }


def model_json(entry: ModelEntry) -> dict[str, Any]:
    """Return a model as lists show it."""
    model = entry.model
    size = total_bytes([model])
    return {
        "id": model.id,
        "run_id": model.run_id,
        "path": model.path,
        "name": model.name,
        "version": model.version,
        "aliases": entry.aliases,
        "origin": model.origin,
        "class": model.class_name,
        "claimed_class": model.claimed_class,
        "framework": model.framework,
        "status": model.status,
        "status_detail": model.status_detail,
        "size": size,
        "size_mb": round(size / MIB, 3),
        "formats": [_file_json(file) for file in model.files],
        "conversion": _conversion_json(model.conversion),
        "metrics": model.metrics,
        **model.published,
        "requires": [asdict(need) for need in needs_of(model)],
        "requirements": requirements_of(model),
        "lineage": _lineage_json(entry.run),
        "created_at": model.created_at.isoformat(),
    }


def _lineage_json(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "request": run.request,
        "manifest": run.manifest,
        "data_set": [
            {
                "upload_id": file.upload_id,
                "file_name": file.file_name,
                "size": file.size_bytes,
                "n_rows": file.n_rows,
                "sha256": file.sha256,
                "crc32c": file.crc32c,
            }
            for file in run.data_set
        ],
    }


def _conversion_json(conversion: Conversion | None) -> dict[str, Any] | None:
    if conversion is None:
        return None
    return {
        "format": "h5",
        "status": conversion.status,
        "detail": conversion.detail,
        "finding": conversion.finding,
    }


def _file_json(file: ModelFile) -> dict[str, Any]:
    return {
        "format": file.format,
        "size": file.size_bytes,
        "sha256": file.sha256,
        "media_type": file.media_type,
        "loads_code": file.loads_code,
    }

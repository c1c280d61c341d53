"""Makes legacy documents as the old backend wrote them."""

import base64
import struct
import zlib
from typing import Any

from shared.adapters.json_documents import IjsonParser
from shared.adapters.keras_h5 import H5pyConverter
from shared.keras_files import KerasFiles
from shared.legacy import LegacyIntake
from shared.models import Listing, ModelService
from tests.factories import ALICE, a_caller
from tests.fakes.documents import InMemoryDocuments
from tests.fakes.hdf5 import Hdf5InProcess
from tests.training_factories import TrainingBench


def a_model_node(content: bytes, class_name: str = "SomeModel") -> dict[str, Any]:
    """Return a node that holds a pickle."""
    return {
        "_model_type": "serialized_model",
        "_model_class": class_name,
        "_model_data": base64.b64encode(content).decode(),
    }


def a_png(width: int = 3, height: int = 2) -> bytes:
    """Return a grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x80" * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


class LegacyBench(TrainingBench):
    """A session with legacy documents, on fakes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.documents = InMemoryDocuments(self.runs)
        self.session_uuid = self.a_session()

    def import_document(self, document: Any) -> str:
        return self.documents.import_results(ALICE, "weather", document)

    def import_object(self, content: bytes, name: str = "legacy.json") -> str:
        object_name = f"results/{self.session_uuid}/{name}"
        self.artifacts.write(object_name, content, "application/json")
        return self.documents.import_results(ALICE, "weather", object_name=object_name)

    def legacy(self, *, documents: Any = None, artifacts: Any = None) -> LegacyIntake:
        return LegacyIntake(
            documents or self.documents,
            artifacts or self.artifacts,
            IjsonParser(),
            KerasFiles(Hdf5InProcess()),
            H5pyConverter(),
        )

    def models(self, **wrapped: Any) -> ModelService:
        return ModelService(self.runs, self.signer, [self.intake(), self.legacy(**wrapped)])

    def save(self, **wrapped: Any) -> Listing:
        return self.models(**wrapped).save(a_caller(), "weather")

    def listing(self) -> Listing:
        return self.models().list(a_caller(), "weather")

    def by_path(self) -> dict[str, Any]:
        return {entry.model.path: entry.model for entry in self.listing().models}

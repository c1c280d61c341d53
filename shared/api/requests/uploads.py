"""What callers send about uploads."""

from typing import Annotated, NotRequired, TypedDict

from shared.api.types import Crc32c, FileName, Keywords, SessionName
from shared.chunks import MOST_CHUNKS
from shared.uploads import LARGEST_FILE_BYTES, SIGNED_PER_CALL


class CreateUpload(TypedDict):
    """Body of POST /uploads.

    Attributes:
        sessionId: Name of the session.
        fileName: A file name without a path.
        size: Exact size [bytes].
        contentType: Media type without parameters.
        sha256: Compared with the assembled object; an equal file of the caller is taken instead of new bytes.
        chunkSize: A wish [bytes]; the server decides.
        presign: How many of the first chunks to sign at once, without checksums. Who has them signed with theirs needs
            none.
    """

    sessionId: SessionName
    fileName: FileName
    size: Annotated[int, Keywords(minimum=0, maximum=LARGEST_FILE_BYTES, examples=[1460])]
    contentType: NotRequired[
        Annotated[
            str,
            Keywords(
                pattern=r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,59}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,59}$",
                default="application/octet-stream",
                examples=["text/csv"],
            ),
        ]
        | None
    ]
    sha256: NotRequired[Annotated[str, Keywords(pattern="^[0-9a-fA-F]{64}$", examples=["262c" * 16])] | None]
    chunkSize: NotRequired[Annotated[int, Keywords(minimum=0, maximum=LARGEST_FILE_BYTES, examples=[16 << 20])] | None]
    presign: NotRequired[Annotated[int, Keywords(minimum=0, maximum=SIGNED_PER_CALL, default=SIGNED_PER_CALL)] | None]


class WantedChunk(TypedDict):
    """A chunk that is to be signed.

    Attributes:
        index: From 0.
        crc32c: Of its bytes; the bucket refuses others.
    """

    index: Annotated[int, Keywords(minimum=0, maximum=MOST_CHUNKS - 1, examples=[0])]
    crc32c: NotRequired[Crc32c | None]


class SignChunks(TypedDict):
    """Body of POST /uploads/{upload_id}/chunks.

    Attributes:
        chunks: Each of them once.
    """

    chunks: Annotated[list[WantedChunk], Keywords(minItems=1, maxItems=SIGNED_PER_CALL)]


class FinalizeSession(TypedDict):
    """Body of POST /finalize-session.

    Attributes:
        sessionId: Name of the session.
    """

    sessionId: SessionName


class LegacyChunk(TypedDict):
    """What an old client says of the chunk it sends; further members are ignored.

    Attributes:
        sessionId: Name of the session.
        fileName: A file name without a path.
        chunkIndex: From 0.
        totalChunks: Of the file.
    """

    sessionId: SessionName
    fileName: FileName
    chunkIndex: Annotated[int, Keywords(minimum=0, maximum=MOST_CHUNKS - 1, examples=[0])]
    totalChunks: Annotated[int, Keywords(minimum=1, maximum=MOST_CHUNKS, examples=[1])]


class LegacyForm(TypedDict):
    """The form of POST /upload-chunk.

    Attributes:
        chunk: The bytes, at most 31 MiB.
        metadata: A LegacyChunk as JSON.
    """

    chunk: Annotated[str, Keywords(contentMediaType="application/octet-stream", examples=["x,y\n0,2\n"])]
    metadata: Annotated[
        str,
        Keywords(
            contentMediaType="application/json",
            examples=['{"sessionId": "example-1", fileName="line.csv", chunkIndex=0, totalChunks=1}'],
        ),
    ]

"""What callers send about publishing."""

from typing import Annotated, TypedDict

from shared.api.types import Crc32c, Keywords, Uuid
from shared.publication import LARGEST_FILE_BYTES
from shared.publishing import LONGEST_NAME, MOST_FILES_PER_CALL, NAME_PATTERN


class RunFile(TypedDict):
    """A file that a job has for a run.

    Attributes:
        name: Below the run's folder; ends in a format of models or png, or is manifest.json.
        size: Exact size [bytes].
        crc32c: Of its bytes; the bucket refuses others.
    """

    name: Annotated[str, Keywords(maxLength=LONGEST_NAME, pattern=f"^{NAME_PATTERN}$", examples=["forest/model.skops"])]
    size: Annotated[int, Keywords(minimum=1, maximum=LARGEST_FILE_BYTES, examples=[5527])]
    crc32c: Crc32c


class Publish(TypedDict):
    """Body of POST /publish/{session_id}.

    Attributes:
        runId: In lower case, chosen by the job; the same one continues what was begun.
        files: Each of them once.
    """

    runId: Uuid
    files: Annotated[list[RunFile], Keywords(minItems=1, maxItems=MOST_FILES_PER_CALL)]

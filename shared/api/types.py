"""Types of the HTTP contract: Python types with the JSON Schema keywords that say the rest.

Requests (`shared/api/requests/`) and answers (`shared/api/answers.py`) are TypedDicts made of these; the description of
the API (`docs/openapi.yaml`) is made of them.
"""

from typing import Annotated, Any

from shared.fields import LONGEST_FILE_NAME


class Keywords:
    """Keywords of JSON Schema that a type is annotated with."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords


Object = dict[str, Any]

Uuid = Annotated[str, Keywords(format="uuid", examples=["3f8a1c52-7c1e-4f7b-9d0a-2b6f6f0f6a11"])]
Time = Annotated[str, Keywords(format="date-time", examples=["2026-11-23T12:40:56.100000+00:00"])]
Url = Annotated[str, Keywords(format="uri", examples=["https://storage.googleapis.com/..."])]
Bytes = Annotated[int, Keywords(minimum=0, examples=[1460])]
Count = Annotated[int, Keywords(minimum=0, examples=[1])]
Crc32c = Annotated[str, Keywords(pattern="^[A-Za-z0-9+/]{6}==$", examples=["KS+ytw=="])]
Sha256 = Annotated[str, Keywords(pattern="^[0-9a-f]{64}$", examples=["262c" * 16])]
# One character at least is no dot: "." and ".." are places in a path.
SessionName = Annotated[
    str,
    Keywords(
        minLength=1,
        maxLength=128,
        pattern="^[A-Za-z0-9._~:@-]*[A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*$",
        examples=["example-1"],
    ),
]
FileName = Annotated[str, Keywords(minLength=1, maxLength=LONGEST_FILE_NAME, examples=["line.csv"])]

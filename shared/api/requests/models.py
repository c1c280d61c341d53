"""What callers send about models."""

from typing import Annotated, NotRequired, TypedDict

from shared.api.types import Keywords, Uuid
from shared.model_choices import ALIASES, DEFAULT_FORMATS
from shared.publication import FORMATS


class ChooseModel(TypedDict):
    """Query of GET /download-model-h5/{session_id}; without any, a Keras model.

    Attributes:
        type: Framework of the model.
        format: One of the model's formats; by default the framework's usual one.
        id: Of the model.
        path: Of the model, `<run id>/<name>`.
        name: Of the model; of several, a saved one of the newest run.
        version: Of the model's content, from 1.
        alias: The newest version of a name, or the best model of a target.
        redirect: `false` has the address answered instead of a redirect to it, which a page's script cannot read.
    """

    type: NotRequired[Annotated[str, Keywords(enum=list(DEFAULT_FORMATS), examples=["sklearn"])]]
    format: NotRequired[Annotated[str, Keywords(enum=list(FORMATS), examples=["skops"])]]
    id: NotRequired[Uuid]
    path: NotRequired[Annotated[str, Keywords(examples=["3f8a1c52-7c1e-4f7b-9d0a-2b6f6f0f6a11/linear_regression"])]]
    name: NotRequired[Annotated[str, Keywords(examples=["linear_regression"])]]
    version: NotRequired[Annotated[int, Keywords(minimum=1, maximum=999_999_999, examples=[1])]]
    alias: NotRequired[Annotated[str, Keywords(enum=list(ALIASES), examples=["best"])]]
    redirect: NotRequired[Annotated[str, Keywords(enum=["true", "false"], examples=["true"])]]


class ChooseArchive(TypedDict):
    """Query of GET /download-archive/{session_id}.

    Attributes:
        redirect: `false` has the address answered instead of a redirect to it, which a page's script cannot read.
    """

    redirect: NotRequired[Annotated[str, Keywords(enum=["true", "false"], examples=["true"])]]


class SignedSource(TypedDict):
    """Where a file is read.

    Attributes:
        url: Signed address.
        bytes: Size of the file.
    """

    url: str
    bytes: Annotated[int, Keywords(minimum=1)]


class SignedTarget(TypedDict):
    """Where a file is written, once.

    Attributes:
        url: Signed address.
        headers: To be sent with it.
    """

    url: str
    headers: dict[str, str]


class ConvertModel(TypedDict):
    """Body of POST /convert-model.

    Attributes:
        source: The .keras file.
        target: Of the .h5 file.
        report: Of how it ended.
    """

    source: SignedSource
    target: SignedTarget
    report: SignedTarget


class BuildArchive(TypedDict):
    """Body of POST /build-archive.

    Attributes:
        plan: Object that says what the archive holds.
    """

    plan: str

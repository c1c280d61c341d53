"""What callers send about sessions."""

from typing import Annotated, NotRequired, TypedDict

from shared.api.types import Keywords, Object, SessionName, Uuid
from shared.sessions import DEFAULT_PAGE, LONGEST_SEARCH_CHARACTERS


class InitSession(TypedDict):
    """Body of POST /init-session.

    Attributes:
        sessionId: The client's own name for the session, unique per user.
        metadata: Anything the client wants to find again: at most 16,384 characters of JSON, 64 levels deep.
    """

    sessionId: SessionName
    metadata: NotRequired[Object | None]


class ListSessions(TypedDict):
    """Query of GET /list-sessions.

    Attributes:
        limit: Sessions of a page; more than 200 are taken as 200.
        page_token: `next_page_token` of the page before.
        search: Only sessions whose id, or title in `metadata`, has this in it, in either case.
        user_id: Whose sessions; for the product's backend, which sees everybody's without it and searches only with it.
    """

    limit: NotRequired[Annotated[int, Keywords(minimum=1, default=DEFAULT_PAGE, examples=[10])]]
    page_token: NotRequired[Annotated[str, Keywords(examples=[""])]]
    search: NotRequired[Annotated[str, Keywords(maxLength=LONGEST_SEARCH_CHARACTERS, examples=["line"])]]
    user_id: NotRequired[Uuid]

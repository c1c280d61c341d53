"""Batch requests of the JSON API: several calls in one multipart/mixed body.

https://docs.cloud.google.com/storage/docs/batch
"""

import re
from dataclasses import dataclass
from email.parser import BytesParser, Parser
from http import HTTPStatus

MOST_CALLS = 100


@dataclass(frozen=True)
class Call:
    """One call of a batch."""

    content_id: str
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes


def parse(content_type: str, body: bytes) -> list[Call]:
    """Return the calls of a batch.

    Raises:
        ValueError: the body is not a batch, or holds too many calls.
    """
    message = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    if not message.is_multipart():
        raise ValueError("A batch is a multipart/mixed body.")
    parts = message.get_payload()
    if len(parts) > MOST_CALLS:
        raise ValueError(f"A batch holds at most {MOST_CALLS} calls.")
    calls = []
    for part in parts:
        line, _, rest = part.get_payload(decode=True).decode().replace("\r\n", "\n").lstrip().partition("\n")
        method, _, target = line.strip().removesuffix(" HTTP/1.1").partition(" ")
        head, _, content = rest.partition("\n\n")
        # Clients may name a whole address; the calls go to the server that the batch came to.
        path, _, query = re.sub(r"^https?://[^/]*", "", target).partition("?")
        headers = [(name.lower(), value) for name, value in Parser().parsestr(head).items()]
        calls.append(Call(part.get("Content-ID", ""), method, path, query, headers, content.strip().encode()))
    return calls


def render(boundary: str, answers: list[tuple[Call, int, bytes]]) -> bytes:
    """Return the multipart body that answers a batch.

    Args:
        answers: the call, its status and the JSON it was answered with.
    """
    parts = []
    for call, status, content in answers:
        content_id = call.content_id.replace("<", "<response-", 1)
        phrase = HTTPStatus(status).phrase
        head = (
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: {content_id}\r\n\r\n"
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json; charset=UTF-8\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()

"""Stands in for Supabase Auth and for Google's token service, for two ready-made users.

Password sign-in answers as supabase-js expects it; nothing else of Supabase Auth is here (no sign-up, no
e-mails, no other providers).
"""

import hmac
import time
import uuid
from typing import Any

import jwt
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from werkzeug.exceptions import HTTPException

from container.app import load_manifest, url_map
from dev.keys import SCHEDULER_EMAIL, TASKS_EMAIL, TOKEN_SECONDS, Keys, User, user_by

USER_CREATED_AT = "2026-01-01T00:00:00Z"


class Identity:
    """Signs people in and hands out tokens.

    Args:
        issuer: `iss` of users' tokens, {SUPABASE_URL}/auth/v1.
        allowed_origins: web origins that get a token of the first user when they bring none.
    """

    def __init__(self, keys: Keys, issuer: str, allowed_origins: frozenset[str]) -> None:
        self._keys = keys
        self._issuer = issuer
        self._allowed_origins = allowed_origins
        self._manifest = load_manifest()
        self._addresses = url_map(self._manifest).bind("localhost")

    def routes(self) -> list[Mount | Route]:
        """Return what Supabase Auth, Google's certificates and the gateway's question are answered at."""
        auth = [
            Route("/.well-known/jwks.json", self._supabase_keys),
            Route("/health", self._health),
            Route("/token", self._token, methods=["POST"]),
            Route("/user", self._user),
            Route("/logout", self._logout, methods=["POST"]),
        ]
        # Supabase lets any origin call; who may do what is in the token.
        any_origin = Middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Total-Count", "Link", "X-Supabase-Api-Version"],
        )
        return [
            Mount("/auth/v1", routes=auth, middleware=[any_origin]),
            Route("/oauth2/v3/certs", self._google_keys),
            Route("/authorization", self._authorization),
        ]

    async def _supabase_keys(self, _: Request) -> Response:
        return JSONResponse(self._keys.supabase_jwks(), headers={"Cache-Control": "public, max-age=600"})

    async def _google_keys(self, _: Request) -> Response:
        return JSONResponse(self._keys.google_jwks(), headers={"Cache-Control": "public, max-age=3600"})

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"name": "trainshed dev identity"})

    async def _token(self, request: Request) -> Response:
        try:
            body = await request.json()
            fields = {name: str(value) for name, value in body.items()}
        except (ValueError, AttributeError):
            return _refuse(400, "bad_json", "Could not parse request body as JSON")
        match request.query_params.get("grant_type"):
            case "password":
                user = user_by(email=fields.get("email", "").strip().lower())
                if not user or not hmac.compare_digest(user.password, fields.get("password", "")):
                    return _refuse(400, "invalid_credentials", "Invalid login credentials")
                return JSONResponse(self._session(user, str(uuid.uuid4())))
            case "refresh_token":
                try:
                    claims = self._keys.read_supabase_token(fields.get("refresh_token", ""), "refresh")
                except jwt.InvalidTokenError:
                    message = "Invalid Refresh Token: Refresh Token Not Found"
                    return _refuse(400, "refresh_token_not_found", message)
                user = user_by(id=claims["sub"])
                assert user is not None, "a refresh token names one of the two users"
                return JSONResponse(self._session(user, claims["session_id"]))
            case _:
                return _refuse(400, "validation_failed", "unsupported_grant_type")

    async def _user(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            user = user_by(id=self._keys.read_supabase_token(token, "authenticated")["sub"])
        except jwt.InvalidTokenError as error:
            return _refuse(403, "bad_jwt", f"invalid JWT: {error}")
        return JSONResponse(_user_document(user)) if user else _refuse(403, "user_not_found", "User not found")

    async def _logout(self, _: Request) -> Response:
        return Response(status_code=204)

    async def _authorization(self, request: Request) -> Response:
        """Give the gateway a token for a call that carries none.

        With `caller` the kind is fixed (the task bridge); otherwise the manifest names it. A page of an
        unknown origin gets none, so that no web site can act as the local user.
        """
        fixed = request.query_params.get("caller")
        kind = fixed or self._kind(request)
        token = ""
        if request.headers.get("origin", "") in {"", *self._allowed_origins}:
            match kind:
                case "user":
                    alice = user_by(name="alice")
                    assert alice is not None
                    token = self._keys.user_token(alice, self._issuer)
                case "scheduler":
                    token = self._keys.oidc_token(SCHEDULER_EMAIL)
                case "task" if fixed:
                    token = self._keys.oidc_token(TASKS_EMAIL)
        return Response(headers={"Authorization": f"Bearer {token}"} if token else {})

    def _kind(self, request: Request) -> str:
        path = request.headers.get("x-forwarded-uri", "").partition("?")[0]
        try:
            name, _ = self._addresses.match(path, method=request.headers.get("x-forwarded-method", "GET"))
        except HTTPException:
            return ""
        caller = str(self._manifest[name]["caller"])
        return "user" if caller.startswith("user") else caller

    def _session(self, user: User, session_id: str) -> dict[str, Any]:
        return {
            "access_token": self._keys.user_token(user, self._issuer, session_id),
            "token_type": "bearer",
            "expires_in": TOKEN_SECONDS,
            "expires_at": int(time.time()) + TOKEN_SECONDS,
            "refresh_token": self._keys.refresh_token(user, session_id),
            "user": _user_document(user),
        }


def _user_document(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "aud": "authenticated",
        "role": "authenticated",
        "email": user.email,
        "email_confirmed_at": USER_CREATED_AT,
        "phone": "",
        "confirmed_at": USER_CREATED_AT,
        "last_sign_in_at": USER_CREATED_AT,
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email_verified": True},
        "identities": [],
        "created_at": USER_CREATED_AT,
        "updated_at": USER_CREATED_AT,
        "is_anonymous": False,
    }


def _refuse(status: int, code: str, message: str) -> Response:
    headers = {"X-Supabase-Api-Version": "2024-01-01"}
    return JSONResponse({"code": code, "message": message}, status_code=status, headers=headers)

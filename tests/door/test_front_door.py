"""The front door answers as Supabase's gateway and Auth do, and lends a token only where the stack promises to."""

import httpx
import jwt
import pytest
from jwt import PyJWKClient

ALICE = "00000000-0000-4000-8000-00000000a11c"
BOB = "00000000-0000-4000-8000-000000000b0b"


def call(stack, method, path, *, key="SUPABASE_PUBLISHABLE_KEY", token="", headers=None, **options):
    sent = {"apikey": stack.settings[key]} if key else {}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    return httpx.request(method, stack.settings["TRAINSHED_URL"] + path, headers={**sent, **(headers or {})}, **options)


def sign_in(stack, who="ALICE", **changed):
    credentials = {"email": stack.settings[f"{who}_EMAIL"], "password": stack.settings[f"{who}_PASSWORD"], **changed}
    return call(stack, "POST", "/auth/v1/token?grant_type=password", json=credentials)


def test_signing_in_gives_a_token_that_the_published_keys_verify(stack):
    session = sign_in(stack).json()

    issuer = stack.settings["SUPABASE_URL"] + "/auth/v1"
    key = PyJWKClient(f"{issuer}/.well-known/jwks.json").get_signing_key_from_jwt(session["access_token"])
    claims = jwt.decode(session["access_token"], key, ["ES256"], audience="authenticated", issuer=issuer)
    assert (claims["sub"], claims["role"], claims["email"]) == (ALICE, "authenticated", "alice@example.com")
    assert claims["exp"] - claims["iat"] == session["expires_in"] == 3600
    assert session["user"]["id"] == ALICE


@pytest.mark.parametrize("changed", [{"password": "wrong"}, {"password": ""}, {"email": "eve@example.com"}])
def test_wrong_credentials_are_refused_as_supabase_refuses_them(stack, changed):
    answer = sign_in(stack, **changed)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_credentials")


def test_a_refresh_token_gives_a_new_session_and_an_access_token_does_not(stack):
    session = sign_in(stack, "BOB").json()

    def refresh(token):
        return call(stack, "POST", "/auth/v1/token?grant_type=refresh_token", json={"refresh_token": token})

    assert refresh(session["refresh_token"]).json()["user"]["id"] == BOB
    assert refresh(session["access_token"]).status_code == 400
    assert refresh("nonsense").status_code == 400


def test_the_user_of_a_token_is_told_and_a_refresh_token_is_not_one(stack):
    session = sign_in(stack).json()

    assert call(stack, "GET", "/auth/v1/user", token=session["access_token"]).json()["id"] == ALICE
    assert call(stack, "GET", "/auth/v1/user", token=session["refresh_token"]).status_code == 403
    assert call(stack, "GET", "/auth/v1/user").status_code == 403


@pytest.mark.parametrize("path", ["/rest/v1/sessions", "/auth/v1/user"])
def test_supabase_paths_need_one_of_the_keys(stack, path):
    unknown = httpx.get(stack.settings["TRAINSHED_URL"] + path, headers={"apikey": "sb_secret_guessed"})

    assert call(stack, "GET", path, key="").status_code == 401
    assert unknown.status_code == 401


def test_each_key_alone_has_its_role(stack):
    by_anyone = call(stack, "GET", "/rest/v1/sessions")
    by_service = call(stack, "GET", "/rest/v1/sessions", key="SUPABASE_SERVICE_KEY")

    assert (by_anyone.status_code, by_anyone.json()["code"]) == (401, "42501")
    assert by_service.status_code == 200


def test_a_key_sent_as_a_token_too_has_its_role(stack):
    key = stack.settings["SUPABASE_SERVICE_KEY"]

    assert call(stack, "GET", "/rest/v1/sessions", key="SUPABASE_SERVICE_KEY", token=key).status_code == 200


def test_a_users_token_is_not_replaced_by_the_keys_role(stack):
    token = sign_in(stack).json()["access_token"]

    answer = call(stack, "POST", "/rest/v1/sessions", key="SUPABASE_SERVICE_KEY", token=token, json={})

    assert (answer.status_code, answer.json()["code"]) == (403, "42501")


def test_an_altered_token_is_refused(stack):
    token = sign_in(stack).json()["access_token"]

    assert call(stack, "GET", "/rest/v1/sessions", token=token[:-4] + "AAAA").status_code == 401


def test_a_function_called_without_a_token_acts_for_the_first_user(stack):
    assert call(stack, "GET", "/api/training/list-sessions", key="").status_code == 200


def test_a_function_called_with_a_wrong_token_is_not_lent_another(stack):
    assert call(stack, "GET", "/api/training/list-sessions", key="", token="wrong").status_code == 401


def test_a_page_of_another_origin_is_lent_no_token(stack):
    evil = {"Origin": "https://evil.example"}

    assert call(stack, "GET", "/api/training/list-sessions", key="", headers=evil).status_code == 401
    assert call(stack, "POST", "/api/training/cleanup", key="", headers=evil, json={}).status_code == 401


def test_the_private_function_is_not_behind_the_front_door(stack):
    answer = call(stack, "POST", "/api/training/run-training", key="", json={})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_path_and_a_wrong_method_are_problems(stack):
    unknown = call(stack, "GET", "/api/training/no-such-function", key="")
    wrong = call(stack, "PUT", "/api/training/list-sessions", key="")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


def test_a_page_that_points_its_own_name_at_this_machine_gets_nothing(stack):
    answer = call(stack, "GET", "/api/training/list-sessions", key="", headers={"Host": "evil.example"})

    assert answer.status_code == 421


@pytest.mark.parametrize("door", ["public", "public-commit", "internal", "internal-authorize"])
def test_the_front_door_leads_to_no_storage_door(stack, door):
    answer = call(stack, "GET", "/auth/v1/health", headers={"X-Door": door})

    assert answer.json() == {"name": "trainshed dev identity"}

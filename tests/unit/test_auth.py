import subprocess
import sys
from typing import Any

import jwt
import pytest

from shared.errors import ForbiddenError, UnauthenticatedError, UnavailableError
from shared.records.callers import CallerKind
from shared.settings import AuthSettings
from shared.web import auth
from shared.web.auth import Authenticator
from tests.factories import ALICE
from tests.tokens import Mint, bad_tokens, lasting, rsa_mint, user_claims

ISSUER = "https://project.example/auth/v1"
SECRET = "a-secret-of-at-least-thirty-two-bytes"
USERS = Mint()
GOOGLE = rsa_mint()
SCHEDULER = "scheduler@project.example"
TASKS = "tasks@project.example"


def google_claims(email: str, **claims: Any) -> dict[str, Any]:
    fixed = {"iss": "https://accounts.google.com", "aud": "trainshed", "sub": "1", "email_verified": True}
    return lasting(email=email, **fixed) | claims


@pytest.fixture(autouse=True)
def key_sets(monkeypatch):
    """Serve the key sets without a network."""
    published = {"http://users": USERS.key_set(), "http://google": GOOGLE.key_set()}

    class LocalKeyClient(jwt.PyJWKClient):
        def fetch_data(self) -> Any:
            return published[self.uri]

    monkeypatch.setattr(auth, "_key_client", LocalKeyClient)
    return published


def authenticator(**settings: str) -> Authenticator:
    defaults = {
        "issuer": ISSUER,
        "audience": "authenticated",
        "jwks_url": "http://users",
        "hs256_secret": "",
        "oidc_issuer": "https://accounts.google.com",
        "oidc_jwks_url": "http://google",
        "oidc_audience": "trainshed",
        "scheduler_email": SCHEDULER,
        "tasks_email": TASKS,
    }
    return Authenticator(AuthSettings(**defaults | settings), service_key="sb_secret_1")


def caller_of(token: str, allowed: str = "user", **settings: str):
    return authenticator(**settings).authenticate({"authorization": f"Bearer {token}"}, allowed)


def test_a_users_token_makes_a_caller_with_that_token():
    token = USERS.sign(user_claims(ALICE, ISSUER))

    caller = caller_of(token)

    assert (caller.kind, caller.user_id, caller.token) == (CallerKind.USER, ALICE, token)


@pytest.mark.parametrize("kind", sorted(bad_tokens(USERS, user_claims(ALICE, ISSUER))))
def test_a_users_token_is_refused_that_is(kind):
    with pytest.raises(UnauthenticatedError):
        caller_of(bad_tokens(USERS, user_claims(ALICE, ISSUER))[kind])


@pytest.mark.parametrize(
    "claims", [{"role": "anon"}, {"role": "service_role"}, {"role": None}, {"sub": "alice"}, {"sub": "1"}]
)
def test_a_token_of_nobody_who_signed_in_is_refused(claims):
    with pytest.raises(UnauthenticatedError):
        caller_of(USERS.sign(user_claims(ALICE, ISSUER) | claims))


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic YWxpY2U6eA==", "bearer", "Token x", "Bearer  \t"]
)
def test_a_request_without_a_token_is_refused(header):
    headers = {} if header is None else {"authorization": header}

    with pytest.raises(UnauthenticatedError, match="Send an access token"):
        authenticator().authenticate(headers, "user")


def test_the_scheme_may_be_written_in_any_case():
    token = USERS.sign(user_claims(ALICE, ISSUER))

    assert authenticator().authenticate({"authorization": f"bEARER {token}"}, "user").user_id == ALICE


def test_a_clock_that_is_ten_seconds_off_is_forgiven():
    claims = user_claims(ALICE, ISSUER)
    slow = claims | {"exp": claims["iat"] - 5}

    assert caller_of(USERS.sign(slow)).user_id == ALICE


def test_keys_that_cannot_be_fetched_are_no_verdict_on_the_token(monkeypatch):
    def unreachable(_url):
        class Unreachable(jwt.PyJWKClient):
            def fetch_data(self) -> Any:
                raise jwt.PyJWKClientConnectionError("no answer")

        return Unreachable("http://users")

    monkeypatch.setattr(auth, "_key_client", unreachable)

    with pytest.raises(UnavailableError):
        caller_of(USERS.sign(user_claims(ALICE, ISSUER)))


def test_a_new_key_is_found_without_a_restart(key_sets):
    verifier = authenticator()
    verifier.authenticate({"authorization": f"Bearer {USERS.sign(user_claims(ALICE, ISSUER))}"}, "user")
    rotated = Mint(key_id="a-new-key")
    key_sets["http://users"] = {"keys": USERS.key_set()["keys"] + rotated.key_set()["keys"]}

    token = rotated.sign(user_claims(ALICE, ISSUER))

    assert verifier.authenticate({"authorization": f"Bearer {token}"}, "user").user_id == ALICE


def test_a_shared_secret_counts_only_where_it_is_configured():
    token = jwt.encode(user_claims(ALICE, ISSUER), SECRET, "HS256")

    assert caller_of(token, hs256_secret=SECRET).user_id == ALICE
    with pytest.raises(UnauthenticatedError):
        caller_of(token)
    with pytest.raises(UnauthenticatedError):
        caller_of(token, hs256_secret=SECRET[::-1])


@pytest.mark.parametrize("kind", sorted(bad_tokens(USERS, user_claims(ALICE, ISSUER))))
def test_with_a_shared_secret_configured_a_token_is_still_refused_that_is(kind):
    with pytest.raises(UnauthenticatedError):
        caller_of(bad_tokens(USERS, user_claims(ALICE, ISSUER))[kind], hs256_secret=SECRET)


@pytest.mark.parametrize(("allowed", "email"), [("scheduler", SCHEDULER), ("task", TASKS)])
def test_a_machine_is_known_by_its_account(allowed, email):
    assert caller_of(GOOGLE.sign(google_claims(email)), allowed).kind == allowed


@pytest.mark.parametrize(
    ("allowed", "email"),
    [("scheduler", TASKS), ("task", SCHEDULER), ("scheduler", "me@gmail.example"), ("task", ""), ("task", None)],
)
def test_another_account_of_google_is_forbidden(allowed, email):
    with pytest.raises(ForbiddenError):
        caller_of(GOOGLE.sign(google_claims(email)), allowed)


def test_an_account_whose_address_is_not_verified_is_forbidden():
    for verified in (False, None, "true"):
        with pytest.raises(ForbiddenError):
            caller_of(GOOGLE.sign(google_claims(SCHEDULER, email_verified=verified)), "scheduler")


def test_where_no_account_is_configured_nobody_may_call():
    with pytest.raises(ForbiddenError):
        caller_of(GOOGLE.sign(google_claims("")), "scheduler", scheduler_email="")


@pytest.mark.parametrize("kind", sorted(bad_tokens(GOOGLE, google_claims(SCHEDULER))))
def test_a_machines_token_is_refused_that_is(kind):
    with pytest.raises(UnauthenticatedError):
        caller_of(bad_tokens(GOOGLE, google_claims(SCHEDULER))[kind], "scheduler")


@pytest.mark.parametrize(
    ("token", "allowed"),
    [
        (USERS.sign(user_claims(ALICE, ISSUER)), "scheduler"),
        (USERS.sign(user_claims(ALICE, ISSUER)), "task"),
        (GOOGLE.sign(google_claims(SCHEDULER)), "user"),
        (GOOGLE.sign(google_claims(TASKS)), "user_or_service"),
    ],
)
def test_a_token_of_one_kind_opens_no_function_of_another(token, allowed):
    with pytest.raises(UnauthenticatedError):
        caller_of(token, allowed)


def test_the_service_key_makes_a_service_caller_only_where_the_manifest_says_so():
    headers = {"apikey": "sb_secret_1"}

    assert authenticator().authenticate(headers, "user_or_service").kind is CallerKind.SERVICE
    for allowed in ("user", "scheduler", "task"):
        with pytest.raises(UnauthenticatedError):
            authenticator().authenticate(headers, allowed)


@pytest.mark.parametrize("key", ["", "sb_secret_", "sb_secret_12", "sb_publishable_1", "é"])
def test_another_key_makes_no_service_caller(key):
    with pytest.raises(UnauthenticatedError):
        authenticator().authenticate({"apikey": key}, "user_or_service")


def test_a_key_beside_a_users_token_leaves_it_the_users():
    token = USERS.sign(user_claims(ALICE, ISSUER))
    headers = {"apikey": "sb_publishable_1", "authorization": f"Bearer {token}"}

    assert authenticator().authenticate(headers, "user_or_service").kind is CallerKind.USER


def test_a_caller_does_not_show_its_token_in_logs():
    token = USERS.sign(user_claims(ALICE, ISSUER))

    assert token not in repr(caller_of(token))


class TestMemory:
    """A token that was verified is believed again for a while; nothing else is."""

    @pytest.fixture
    def signatures(self, monkeypatch):
        """Count how often a signature is checked."""
        checked = []
        decode = auth._decode
        monkeypatch.setattr(auth, "_decode", lambda token, *rest: checked.append(token) or decode(token, *rest))
        return checked

    def test_the_same_token_is_verified_once(self, signatures):
        one, headers = authenticator(), {"authorization": f"Bearer {USERS.sign(user_claims(ALICE, ISSUER))}"}

        assert one.authenticate(headers, "user") == one.authenticate(headers, "user_or_service")
        assert len(signatures) == 1

    def test_a_token_is_not_believed_beyond_its_time(self, monkeypatch, signatures):
        one, token = authenticator(), USERS.sign(user_claims(ALICE, ISSUER))
        one.authenticate({"authorization": f"Bearer {token}"}, "user")
        (until,) = (until for until, _ in one._known.values())
        monkeypatch.setattr(auth.time, "time", lambda: until)
        one.authenticate({"authorization": f"Bearer {token}"}, "user")

        assert len(signatures) == 2
        assert until <= auth.time.time() + auth.JWKS_LIFETIME_S

    def test_a_users_token_is_none_of_the_scheduler_though_it_is_known(self):
        one, token = authenticator(), USERS.sign(user_claims(ALICE, ISSUER))
        one.authenticate({"authorization": f"Bearer {token}"}, "user")

        with pytest.raises(UnauthenticatedError):
            one.authenticate({"authorization": f"Bearer {token}"}, "scheduler")

    def test_no_more_tokens_are_kept_than_a_bound(self, monkeypatch):
        monkeypatch.setattr(auth, "KNOWN_TOKENS", 2)
        one = authenticator()
        for number in range(5):
            token = USERS.sign(user_claims(ALICE, ISSUER, jti=str(number)))
            one.authenticate({"authorization": f"Bearer {token}"}, "user")

        assert len(one._known) <= 2


def test_verifying_loads_no_certificates():
    program = (
        "import sys; from shared.web import auth; auth._jwt(); print(type(sys.modules['cryptography.x509']).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "_LazyModule"

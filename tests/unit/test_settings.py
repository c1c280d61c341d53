import pytest

from shared.errors import SettingsError
from shared.settings import (
    allowed_origins,
    auth_settings,
    buckets,
    queue_settings,
    storage_settings,
    supabase_settings,
)

SUPABASE = {
    "SUPABASE_URL": "https://project.example/",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_1",
    "SUPABASE_SERVICE_KEY": "sb_secret_1",
}
STORAGE = {"UPLOADS_BUCKET": "uploads", "ARTIFACTS_BUCKET": "artifacts", "SIGNER_EMAIL": "signer@project.example"}
QUEUE = {
    "TASKS_QUEUE": "projects/p/locations/l/queues/q",
    "TASKS_TARGET_URL": "https://train.example/",
    "TASKS_EMAIL": "tasks@project.example",
    "OIDC_AUDIENCE": "trainshed",
}


@pytest.mark.parametrize(
    ("read", "complete"),
    [(supabase_settings, SUPABASE), (buckets, STORAGE), (storage_settings, STORAGE), (queue_settings, QUEUE)],
)
def test_everything_that_is_missing_is_named_at_once(read, complete):
    with pytest.raises(SettingsError) as caught:
        read({})

    demanded = {"UPLOADS_BUCKET", "ARTIFACTS_BUCKET"} if read is buckets else set(complete)
    assert all(name in str(caught.value) for name in demanded)
    assert read(complete)


@pytest.mark.parametrize("name", SUPABASE)
def test_a_setting_of_blanks_is_missing(name):
    with pytest.raises(SettingsError, match=f"{name} is not set"):
        supabase_settings(SUPABASE | {name: "  "})


def test_addresses_lose_the_slash_at_their_end():
    assert supabase_settings(SUPABASE).url == "https://project.example"
    assert queue_settings(QUEUE).target_url == "https://train.example"
    assert storage_settings(STORAGE | {"STORAGE_PUBLIC_URL": "http://door/"}).public_url == "http://door"


def test_what_tokens_must_say_follows_from_the_address_of_the_project():
    settings = auth_settings(SUPABASE)

    assert settings.issuer == "https://project.example/auth/v1"
    assert settings.jwks_url == "https://project.example/auth/v1/.well-known/jwks.json"
    assert (settings.audience, settings.hs256_secret) == ("authenticated", "")
    assert settings.oidc_issuer == "https://accounts.google.com"


def test_an_issuer_of_its_own_names_its_own_keys():
    settings = auth_settings(SUPABASE | {"JWT_ISSUER": "https://id.example/auth"})

    assert settings.jwks_url == "https://id.example/auth/.well-known/jwks.json"


@pytest.mark.parametrize("environ", [{}, {"SUPABASE_URL": "project.example"}, {"JWT_ISSUER": "file:///etc"}])
def test_without_an_address_of_the_issuer_there_is_nobody_to_believe(environ):
    with pytest.raises(SettingsError, match="SUPABASE_URL or JWT_ISSUER"):
        auth_settings(environ)


def test_signed_urls_live_an_hour_unless_told_otherwise():
    assert storage_settings(STORAGE).signed_url_seconds == 3600
    assert storage_settings(STORAGE | {"SIGNED_URL_SECONDS": "60"}).signed_url_seconds == 60


@pytest.mark.parametrize("seconds", ["0", "-1", "43201", "1.5", "an hour", "²"])
def test_a_lifetime_that_google_would_refuse_is_refused_here(seconds):
    with pytest.raises(SettingsError, match="SIGNED_URL_SECONDS"):
        storage_settings(STORAGE | {"SIGNED_URL_SECONDS": seconds})


def test_somebody_must_sign():
    without_signer = {name: value for name, value in STORAGE.items() if name != "SIGNER_EMAIL"}

    with pytest.raises(SettingsError, match="SIGNER_EMAIL or SIGNER_KEY_FILE"):
        storage_settings(without_signer)
    assert storage_settings(without_signer | {"SIGNER_KEY_FILE": "key.json"}).signer_key_file == "key.json"


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        (" , ", set()),
        ("https://a", {"https://a"}),
        ("https://a, http://b:1 ,", {"https://a", "http://b:1"}),
    ],
)
def test_origins_are_separated_by_commas(text, origins):
    assert allowed_origins({"ALLOWED_ORIGINS": text}) == origins


def test_no_origin_is_allowed_by_default():
    assert allowed_origins({}) == set()

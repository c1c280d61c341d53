"""What a `.keras` archive is, told without Keras."""

import io
import json
import zipfile
from dataclasses import replace

import pytest

from shared import keras_archives
from shared.keras_archives import inspect_archive

METADATA = {"keras_version": "3.15.1", "date_saved": "2026-11-24@12:00:00"}


def a_config(*layers, **fields):
    layers = layers or ({"module": "keras.layers", "class_name": "Dense", "config": {"units": 1}},)
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": list(layers)}} | fields


def an_archive(config=None, *, compression=zipfile.ZIP_STORED, left_out=(), **members):
    contents = {
        "metadata.json": json.dumps(METADATA),
        "config.json": config if isinstance(config, str) else json.dumps(config or a_config()),
        "model.weights.h5": b"\x89HDF\r\n\x1a\n",
    } | members
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in contents.items():
            if name not in left_out:
                archive.writestr(name, content)
    return buffer


def codes(report):
    return [(finding.code, finding.where, finding.is_refused) for finding in report.findings]


def test_a_plain_model_is_described_and_has_no_findings():
    report = inspect_archive(an_archive())
    assert (report.class_name, report.keras_version, report.layers) == ("Sequential", "3.15.1", ("Dense",))
    assert (report.findings, report.refusal, report.has_code) == ((), None, False)


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "Lambda", "module": "keras.layers", "config": {}},
        {"class_name": "Dense", "config": {"activation": {"class_name": "__lambda__", "config": {"value": "x"}}}},
    ],
)
def test_code_in_the_file_is_told(layer):
    report = inspect_archive(an_archive(a_config(layer)))
    ((code, where, is_refused),) = codes(report)
    assert (code, is_refused, report.has_code) == ("lambda", False, True)
    assert where.startswith("config.layers[0]")


@pytest.mark.parametrize(
    "fields", [{"module": "builder.layers"}, {"module": "kerasx"}, {"registered_name": "pkg>Thing"}]
)
def test_objects_that_keras_does_not_have_are_told(fields):
    report = inspect_archive(an_archive(a_config({"class_name": "Thing", "config": {}} | fields)))
    assert codes(report) == [("custom_object", "config.layers[0]", False)]
    assert not report.has_code


@pytest.mark.parametrize(
    "config",
    [
        {"vocabulary": "words.txt"},
        {"vocabulary": "/etc/passwd"},
        {"vocabulary": "gs://bucket/words"},
        {"filepath": "https://example.com/x"},
        {"anything": ["../../etc/passwd"]},
        {"anything": "C:\\Windows\\x"},
        {"anything": "\\\\host\\share"},
        {"anything": "a/../../b"},
    ],
)
def test_places_outside_the_file_are_refused(config):
    layer = {"class_name": "StringLookup", "module": "keras.layers", "config": config}
    report = inspect_archive(an_archive(a_config(layer)))
    assert report.refusal.code == "outside_reference"
    assert report.refusal.where.startswith(f"config.layers[0].config.{next(iter(config))}")


def test_a_vocabulary_in_the_file_is_fine():
    layer = {"class_name": "StringLookup", "module": "keras.layers", "config": {"vocabulary": ["a", "b"]}}
    assert inspect_archive(an_archive(a_config(layer))).findings == ()


def test_a_layer_that_loads_a_program_is_refused():
    report = inspect_archive(an_archive(a_config({"class_name": "TFSMLayer", "config": {"filepath": "x"}})))
    assert codes(report) == [("saved_model", "config.layers[0]", True)]


@pytest.mark.parametrize(
    "archive",
    [
        an_archive(left_out=["metadata.json"]),
        an_archive(**{"assets/words.txt": "x"}),
        an_archive(**{"../config.json": "{}"}),
        an_archive(**{"/etc/passwd": "x"}),
        an_archive(compression=zipfile.ZIP_LZMA),
    ],
)
def test_other_members_are_refused(archive):
    assert inspect_archive(archive).refusal.code == "members"


def test_a_member_that_comes_twice_is_refused():
    buffer = an_archive()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("config.json", "{}")
    assert inspect_archive(buffer).refusal.code == "members"


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = an_archive(compression=zipfile.ZIP_DEFLATED, **{"model.weights.h5": bytes(10 << 20)})
    report = inspect_archive(bomb)
    assert (report.refusal.code, report.refusal.where) == ("too_large", "model.weights.h5")


@pytest.mark.parametrize(("name", "value"), [("MAX_CONFIG_BYTES", 100), ("MAX_NODES", 3)])
def test_a_config_that_asks_for_too_much_is_refused(monkeypatch, name, value):
    monkeypatch.setattr(keras_archives, name, value)
    assert inspect_archive(an_archive(a_config(name="x" * 200))).refusal.code == "too_large"


@pytest.mark.parametrize("member", ["config.json", "metadata.json"])
@pytest.mark.parametrize("lacks", [0, 1])
def test_a_document_in_an_archive_has_a_largest_size(monkeypatch, member, lacks):
    content = json.dumps(a_config() if member == "config.json" else METADATA | {"note": "x" * 1_000})
    monkeypatch.setattr(keras_archives, "MAX_CONFIG_BYTES", len(content) - lacks)
    refusal = inspect_archive(an_archive(**{member: content})).refusal
    expected = ("too_large", f"It claims {len(content)} bytes unpacked.", member)
    assert (refusal and (refusal.code, refusal.message, refusal.where)) == (expected if lacks else None)


def test_a_document_that_has_more_than_it_claims_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(keras_archives, "_check_members", lambda _: None)
    monkeypatch.setattr(keras_archives, "MAX_CONFIG_BYTES", 100)
    refusal = inspect_archive(an_archive(a_config(name="x" * 200))).refusal
    assert (refusal.code, refusal.where) == ("too_large", "config.json")


def test_of_many_layers_the_first_are_listed(monkeypatch):
    monkeypatch.setattr(keras_archives, "MAX_LAYERS", 3)
    layers = [{"class_name": f"Dense{number}", "config": {}} for number in range(4)]
    assert inspect_archive(an_archive(a_config(*layers))).layers == ("Dense0", "Dense1", "Dense2")


def test_where_something_is_stays_short_however_long_keys_are():
    deep: object = {"vocabulary": "/etc/passwd"}
    for _ in range(50):
        deep = {"k" * 10_000: deep}
    refusal = inspect_archive(an_archive(a_config({"class_name": "Dense", "config": deep}))).refusal
    assert refusal.where.endswith("k.vocabulary")
    assert len(refusal.where) <= 200


def test_an_encrypted_member_is_refused():
    content = bytearray(an_archive().getvalue())
    # Bit 0 of the flags, eight bytes into an entry of the central directory.
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert inspect_archive(io.BytesIO(content)).refusal.code == "members"


@pytest.mark.parametrize("config", ["", "[]", "nothing", "[" * 100_000, '"text"'])
def test_a_config_that_is_none_is_refused(config):
    report = inspect_archive(an_archive(config or "{"))
    assert (report.refusal.code, report.refusal.where) == ("not_json", "config.json")


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", b"MZ" + an_archive().getvalue(), b"PK\x03\x04" * 100])
def test_what_is_no_archive_is_refused(content):
    assert inspect_archive(io.BytesIO(content)).refusal.code == "not_a_zip"


def test_every_cut_and_every_changed_byte_ends_in_a_report():
    content = an_archive(compression=zipfile.ZIP_DEFLATED).getvalue()
    for at in range(len(content)):
        inspect_archive(io.BytesIO(content[:at]))
        inspect_archive(io.BytesIO(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]))


def test_packed_weights_are_unpacked_up_to_a_largest_size(monkeypatch):
    packed = an_archive(compression=zipfile.ZIP_DEFLATED, **{"model.weights.h5": b"\x89HDF" * 10})
    monkeypatch.setattr(keras_archives, "MAX_PACKED_WEIGHTS_BYTES", 40)
    with keras_archives.weights(packed) as (file, start, n_bytes):
        assert (start, n_bytes) == (0, 40)
        file.seek(0)
        assert file.read() == b"\x89HDF" * 10
    monkeypatch.setattr(keras_archives, "MAX_PACKED_WEIGHTS_BYTES", 39)
    with keras_archives.weights(packed) as finding:
        assert (finding.code, finding.is_refused) == ("too_large", True)


def test_weights_that_are_not_packed_and_claim_two_sizes_are_refused():
    content = bytearray(an_archive().getvalue())
    # The size packed, 20 bytes into an entry of the central directory; that of the weights is the last one.
    content[content.rindex(b"PK\x01\x02") + 20] -= 1
    with keras_archives.weights(io.BytesIO(content)) as finding:
        assert (finding.code, finding.is_refused) == ("members", True)


def test_what_is_refused_is_not_pushed_out_by_what_is_told():
    layers = [{"class_name": "Lambda", "config": {}}] * 200
    report = inspect_archive(an_archive(a_config(*layers, {"class_name": "TFSMLayer", "config": {}})))
    assert len(report.findings) == keras_archives.MAX_FINDINGS
    assert report.refusal.code == "saved_model"
    assert replace(report, findings=()).refusal is None


@pytest.mark.parametrize(
    ("member", "is_fine"),
    [
        ("assets/layers/words/vocabulary.txt", True),
        ("assets/", True),
        ("assets/../../escape", False),
        ("assets/..", False),
        ("assets\\..\\escape", False),
        ("other/vocabulary.txt", False),
    ],
)
def test_assets_are_members_where_they_may_be_and_lead_nowhere_else(member, is_fine):
    archive = an_archive()
    with zipfile.ZipFile(archive, "a") as members:
        members.writestr(member, "x")
    assert inspect_archive(archive).refusal.code == "members"
    assert (inspect_archive(archive, may_have_assets=True).refusal is None) is is_fine

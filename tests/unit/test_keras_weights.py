"""Weights in HDF5 are looked at without following what leads elsewhere; hostile archives are refused."""

import json
import zipfile

import h5py
import pytest

from shared.adapters import keras_conversion, keras_weights
from shared.adapters.keras_conversion import ARCHIVE_NAME, H5_NAME, convert
from tests.hostile_hdf5 import HOSTILE, external, plain, virtual


def inspect_weights(path):
    with path.open("rb") as file:
        return keras_weights.inspect_weights(file, path.stat().st_size)


def weights(path, build):
    with h5py.File(path, "w") as file:
        build(file)
    return path


def test_plain_weights_have_no_finding(tmp_path):
    assert inspect_weights(weights(tmp_path / "w.h5", plain)) is None


@pytest.mark.parametrize(("build", "code", "where"), HOSTILE)
def test_what_lies_elsewhere_or_is_too_much_is_refused_with_its_place(tmp_path, build, code, where):
    finding = inspect_weights(weights(tmp_path / "w.h5", build))
    assert (finding.code, finding.is_refused) == (code, True)
    # Of two names of one thing either may be met first.
    assert finding.where == where or code == "link"


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"nothing" * 100])
def test_what_is_no_hdf5_is_refused(tmp_path, content):
    (tmp_path / "w.h5").write_bytes(content)
    assert inspect_weights(tmp_path / "w.h5").code == "not_hdf5"


def test_every_cut_ends_in_an_answer(tmp_path):
    whole = weights(tmp_path / "w.h5", plain).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.h5").write_bytes(whole[:length])
        assert inspect_weights(tmp_path / "cut.h5") is not None


def test_a_number_of_objects_is_the_most(tmp_path, monkeypatch):
    monkeypatch.setattr("shared.adapters.keras_weights.MAX_OBJECTS", 3)
    assert inspect_weights(weights(tmp_path / "w.h5", plain)).code == "too_large"


def an_archive(folder, layer, build=plain, members=()):
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    path = weights(folder / "source.h5", build)
    with zipfile.ZipFile(folder / ARCHIVE_NAME, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.write(path, "model.weights.h5")
        for name in members:
            archive.writestr(name, "x")
    return folder


DENSE = {"class_name": "Odd", "module": "keras.layers", "config": {"name": "dense"}}


@pytest.mark.parametrize(
    ("layer", "build", "members", "status", "code"),
    [
        ({"class_name": "Lambda", "config": {}}, plain, (), "refused", "lambda"),
        ({"class_name": "TFSMLayer", "config": {"filepath": "x"}}, plain, (), "refused", "saved_model"),
        ({"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, plain, (), "refused", "outside"),
        (DENSE, plain, ("../escape",), "refused", "members"),
        (DENSE, plain, ("/etc/absolute",), "refused", "members"),
        (DENSE, external, (), "refused", "external_dataset"),
        (DENSE, virtual, (), "refused", "virtual_dataset"),
        ({"class_name": "Own", "module": "os", "config": {}}, plain, (), "unsupported", "custom_object"),
    ],
)
def test_a_hostile_archive_is_refused_before_keras_is_loaded(
    tmp_path, monkeypatch, layer, build, members, status, code
):
    def never(*_):
        raise AssertionError("Keras was asked.")

    monkeypatch.setattr(keras_conversion, "_with_keras", never)
    verdict = convert(an_archive(tmp_path, layer, build, members))
    assert verdict.status == status
    assert code in verdict.detail
    assert not (tmp_path / H5_NAME).exists()


def test_what_no_look_refuses_is_left_to_keras(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(keras_conversion, "_with_keras", lambda *paths: asked.append(paths))
    convert(an_archive(tmp_path, DENSE))
    assert asked == [(tmp_path / ARCHIVE_NAME, tmp_path / H5_NAME)]

"""Real pickles, plain data, bad input and budgets. That nothing runs: test_pickles_are_inert.py."""

import io
import json
import math
import pickle
import pickletools
import struct
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import __version__ as sklearn_version
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils import all_estimators

from shared import pickle_machine, pickles
from shared.pickle_globals import Grade, grade
from shared.pickle_machine import Budget, PickleRefusedError, play
from shared.pickles import PickleDescription, list_globals, read_pickle
from tests.hostile_pickles import call, claims, deep_key, hash_bomb, laughs, named
from tests.pickled_models import ALL_PROTOCOLS, NAMED, ROWS, fitted_objects, written

OBJECTS = fitted_objects()
PROTO_2 = b"\x80\x02"


def refusal(data: bytes, budget: Budget | None = None) -> PickleRefusedError:
    with pytest.raises(PickleRefusedError) as refused:
        read_pickle(data, budget=budget)
    return refused.value


def codes(description: PickleDescription) -> list[str]:
    return [finding.code for finding in description.findings]


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
@pytest.mark.parametrize("name", OBJECTS)
def test_real_objects_are_read_in_every_protocol_and_from_joblib(name, protocol):
    value = OBJECTS[name]

    description = read_pickle(written(value, protocol))

    assert description.class_name == f"{type(value).__module__}.{type(value).__qualname__}"
    assert [found for found in description.globals if found.grade is Grade.FOREIGN] == []
    assert codes(description) == []
    # JSON with the strict rules of Postgres: no NaN, no NUL, no half characters.
    assert "\\u0000" not in json.dumps(description.parameters | description.fitted, allow_nan=False)
    if not isinstance(value, dict):
        assert (description.framework, description.sklearn_version) == ("sklearn", sklearn_version)
        assert f"scikit-learn=={sklearn_version}" in description.requirements
        assert "numpy>=2" in description.requirements or protocol == 6
        assert set(description.parameters) >= set(value.get_params(deep=False))


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
@pytest.mark.parametrize("name", [name for name in OBJECTS if name != "two scalers"])
def test_numbers_of_fitted_arrays_are_those_of_the_object(name, protocol):
    value = OBJECTS[name]

    fitted = read_pickle(written(value, protocol)).fitted

    compared = 0
    for attribute, told in fitted.items():
        if isinstance(told, dict) and "values" in told:
            real = np.asarray(getattr(value, attribute))
            if real.dtype.kind == "O" and not isinstance(real.flat[0], str):
                continue
            assert told["shape"] == list(real.shape)
            assert told["values"] == real.ravel().tolist()
            compared += 1
        elif isinstance(told, int | float):
            assert told == getattr(value, attribute)
            compared += 1
    assert compared or name in {"search", "pipeline"}


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
@pytest.mark.parametrize(
    ("scaler", "by_hand"),
    [
        (StandardScaler(), lambda x, p: (x - p["mean"]) / p["scale"]),
        (StandardScaler(with_mean=False), lambda x, p: x / p["scale"]),
        (StandardScaler(with_std=False), lambda x, p: x - p["mean"]),
        (StandardScaler(with_mean=False, with_std=False), lambda x, p: x),
        (MinMaxScaler((-2, 5)), lambda x, p: x * p["scale"] + p["min"]),
        (MinMaxScaler(clip=True), lambda x, p: np.clip(x * p["scale"] + p["min"], *p["feature_range"])),
        (RobustScaler(), lambda x, p: (x - p["center"]) / p["scale"]),
        (RobustScaler(with_scaling=False), lambda x, p: x - p["center"]),
        (MaxAbsScaler(), lambda x, p: x / p["scale"]),
    ],
    ids=str,
)
def test_the_formula_of_a_scaler_gives_what_the_scaler_gives(scaler, by_hand, protocol):
    scaler.fit(NAMED)
    other = NAMED * 1.7 - 1

    (told,) = read_pickle(written(scaler, protocol)).scalers

    params = {name: np.array(value) if isinstance(value, list) else value for name, value in told.params.items()}
    clip = np.clip
    assert np.allclose(by_hand(other.to_numpy(), params), scaler.transform(other), rtol=1e-15)
    by_formula = eval(told.formula, {"x": other.to_numpy(), "clip": clip, **params})
    assert np.array_equal(by_formula, by_hand(other.to_numpy(), params))
    if "clip(" not in told.formula:
        assert np.allclose(eval(told.inverse, {"x": by_formula, **params}), other.to_numpy())
    assert told.feature_names == ("depth", "flow", "Höhe")
    assert told.n_samples_seen == (None if isinstance(scaler, RobustScaler) else len(NAMED))


def test_scalers_are_found_wherever_they_stand():
    description = read_pickle(written({"a": [OBJECTS["two scalers"]], "model": OBJECTS["pipeline"]}, 5))

    assert [(scaler.path, scaler.type) for scaler in description.scalers] == [
        ("$.a[0].inputs", "standard"),
        ("$.a[0].target", "minmax"),
        ("$.model.steps[0][1]", "standard"),
    ]
    assert [estimator.path for estimator in description.estimators][2:4] == ["$.model", "$.model.steps[0][1]"]


def test_a_scaler_that_was_never_fitted_has_no_numbers_and_no_finding():
    description = read_pickle(pickle.dumps(StandardScaler()))

    assert (description.scalers, description.findings) == ((), ())


def test_a_scaler_with_numbers_missing_is_reported():
    scaler = StandardScaler().fit(ROWS)
    scaler.mean_ = scaler.mean_[:2]

    description = read_pickle(pickle.dumps(scaler))

    assert (description.scalers, codes(description)) == ((), ["scaler_incomplete"])


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
        np.arange(6, dtype=">f4"),
        np.arange(4, dtype="u2")[::2],
        np.array([True, False]),
        np.array(["ab", "Höhe", ""]),
        np.array(["a", None, 3], dtype=object),
        np.zeros((0, 3)),
        np.float16([0.5]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_are_told_in_rows(array, protocol):
    holder = StandardScaler()
    holder.values_ = array

    told = read_pickle(written(holder, protocol)).fitted["values_"]

    assert told["shape"] == list(array.shape)
    assert told["values"] == array.ravel().tolist()


def test_arrays_that_are_not_plain_are_told_by_type_and_shape():
    holder = StandardScaler()
    holder.complex_ = np.array([1j])
    holder.dates_ = np.array(["2026-01-01"], dtype="M8[D]")
    holder.records_ = np.zeros(2, dtype=[("a", "f8"), ("b", "i4")])

    fitted = read_pickle(pickle.dumps(holder)).fitted

    assert fitted["complex_"] == {"kind": "array", "dtype": "<c16", "shape": [1]}
    assert fitted["dates_"] == {"kind": "array", "dtype": "<M8", "shape": [1]}
    assert fitted["records_"] == {"kind": "array", "dtype": "|V12", "shape": [2]}


def test_an_array_with_more_bytes_than_its_shape_says_is_reported():
    data = pickle.dumps(np.arange(3.0), 4).replace(b"K\x03\x85", b"K\x02\x85")

    assert codes(read_pickle(written([0], 4))) == []
    description = read_pickle(pickle.dumps(StandardScaler().fit(ROWS), 5).replace(b"K\x03\x85", b"K\x02\x85"))
    assert "array_size" in codes(description)
    assert read_pickle(data).class_name == "numpy.ndarray"


def test_numbers_json_has_no_word_for_become_texts():
    holder = StandardScaler(copy=math.nan)
    holder.values_ = np.array([math.nan, math.inf, -math.inf])
    holder.largest_ = 10**30

    description = read_pickle(pickle.dumps(holder))

    assert description.parameters["copy"] == "NaN"
    assert description.fitted["values_"]["values"] == ["NaN", "Infinity", "-Infinity"]
    assert description.fitted["largest_"] == {"kind": "integer", "value": str(10**30)}


# Keras


@pytest.fixture
def keras_model(monkeypatch):
    """Give a class that pickles as Keras 3 models do (research: a classmethod called with a BytesIO)."""
    module = types.ModuleType("keras.src.models.sequential")

    class Sequential:
        def __init__(self, content):
            self.content = content

        @classmethod
        def _unpickle_model(cls, file):
            raise AssertionError("The service has run a pickle.")

        def __reduce__(self):
            return type(self)._unpickle_model, (io.BytesIO(self.content),)

    Sequential.__module__, Sequential.__qualname__ = module.__name__, "Sequential"
    module.Sequential = Sequential
    for name in ("keras", "keras.src", "keras.src.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Sequential


ARCHIVE = b"PK\x03\x04" + bytes(range(256)) * 40


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, 6])
def test_the_keras_archive_comes_out_byte_for_byte(keras_model, protocol):
    data = written(keras_model(ARCHIVE), protocol)

    description = read_pickle(data)

    (archive,) = description.keras_archives
    assert archive.content() == ARCHIVE
    assert (data[archive.start : archive.stop] == ARCHIVE) == (protocol != 2)
    assert description.class_name == archive.class_name == "keras.src.models.sequential.Sequential"
    assert (description.framework, description.requirements) == ("keras", ("keras>=3",))
    # Every Keras model asks for getattr; a warning at each would be a warning at none.
    assert description.findings == ()
    assert {found.grade for found in description.globals} <= {Grade.DATA, Grade.ESTIMATOR}


def test_keras_models_are_found_inside_other_objects(keras_model):
    description = read_pickle(pickle.dumps({"history": [keras_model(ARCHIVE)], "best": keras_model(ARCHIVE + b"2")}))

    assert [archive.path for archive in description.keras_archives] == ["$.history[0]", "$.best"]
    assert [archive.content() for archive in description.keras_archives] == [ARCHIVE, ARCHIVE + b"2"]


def test_a_keras_model_without_its_archive_is_reported(keras_model):
    description = read_pickle(pickle.dumps(keras_model(b"no zip")))

    assert (description.keras_archives, codes(description)) == ((), ["keras_archive_missing"])


def test_getattr_for_anything_but_the_loader_of_keras_is_foreign(keras_model):
    data = pickle.dumps(keras_model(ARCHIVE), 4).replace(b"_unpickle_model", b"from_json_files")

    description = read_pickle(data)

    assert description.keras_archives == ()
    assert codes(description) == ["foreign_global", "embedded_archive"]


# Keras hands TensorFlow arrays whose conversion numpy 2 is going to change.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_real_keras_model_gives_the_archive_that_keras_loads(tmp_path):
    import keras

    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])

    description = read_pickle(pickle.dumps(model))

    path = tmp_path / "model.keras"
    path.write_bytes(description.keras_archives[0].content())
    again = keras.saving.load_model(path, safe_mode=True)
    assert all(map(np.array_equal, again.get_weights(), model.get_weights()))
    assert description.findings == ()


@pytest.mark.parametrize("module", ["keras.saving.pickle_utils", "keras.src.saving.pickle_utils"])
def test_keras_2_models_are_recognized_and_left_alone(module):
    description = read_pickle(call(module, "deserialize_model_from_bytecode", b"C\x04PK\x05\x06\x85"))

    assert (description.framework, codes(description), description.keras_archives) == ("keras", ["keras2"], ())


# What it would import


def test_every_public_estimator_of_scikit_learn_is_known():
    assert [name for name, kind in all_estimators() if grade(kind.__module__, name) is not Grade.ESTIMATOR] == []


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("numpy._core.multiarray", "_reconstruct", Grade.DATA),
        ("__builtin__", "bytes", Grade.DATA),
        ("sklearn.tree._tree", "Tree", Grade.ESTIMATOR),
        ("keras.src.models.functional", "Functional", Grade.ESTIMATOR),
        ("sklearn.datasets._base", "os.system", Grade.FOREIGN),
        ("sklearn.preprocessing", "StandardScaler.fit", Grade.FOREIGN),
        ("sklearn", "StandardScaler", Grade.FOREIGN),
        ("sklearnx.preprocessing", "StandardScaler", Grade.FOREIGN),
        ("numpy", "load", Grade.FOREIGN),
        ("numpy.core.multiarray", "fromfile", Grade.FOREIGN),
        ("builtins", "getattr", Grade.FOREIGN),
        ("builtins", "eval", Grade.FOREIGN),
        ("", "", Grade.FOREIGN),
    ],
)
def test_globals_are_known_by_their_exact_names(module, name, expected):
    assert grade(module, name) is expected


def test_foreign_and_dotted_globals_are_named_with_their_place():
    description = read_pickle(call("sklearn.datasets._base", "os.system", b"\x8c\x04exit\x85"))

    assert description.framework == "sklearn"
    assert [(found.module, found.name, found.grade, found.is_dotted) for found in description.globals] == [
        ("sklearn.datasets._base", "os.system", Grade.FOREIGN, True)
    ]
    assert codes(description) == ["dotted_name", "foreign_global"]


def test_a_claim_is_held_against_what_was_read():
    data = pickle.dumps(OBJECTS["minmax scaler"])

    assert codes(read_pickle(data, claimed_class="sklearn.preprocessing.MinMaxScaler")) == []
    assert codes(read_pickle(data, claimed_class="<class 'keras.src.models.Sequential'>")) == ["class_mismatch"]


def test_numpy_1_and_2_are_told_apart():
    old = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n."

    assert read_pickle(old).requirements == ("numpy",)
    assert read_pickle(old.replace(b".core", b"._core")).requirements == ("numpy>=2",)


def test_a_version_that_is_none_stays_out_of_requirements():
    scaler = StandardScaler()
    data = pickle.dumps(scaler, 4).replace(sklearn_version.encode(), b"1\n -e")

    assert len(sklearn_version) == 5
    assert read_pickle(data).requirements == ("scikit-learn",)


# The machine against pickle itself

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5).filter("kind".__ne__), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=300)
@given(value=PLAIN, protocol=st.sampled_from(ALL_PROTOCOLS))
def test_plain_data_is_told_as_it_is(value, protocol):
    holder = StandardScaler(copy=value)

    told = read_pickle(written(holder, protocol)).parameters["copy"]

    assert told == as_told(value)


def as_told(value):
    """Return plain data as rows of Postgres can hold it: without NUL and half characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")
    if isinstance(value, list):
        return [as_told(one) for one in value]
    return {as_told(key): as_told(one) for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", OBJECTS)
def test_every_opcode_is_read_where_pickletools_reads_it(name, protocol):
    data = pickle.dumps(OBJECTS[name], protocol)

    opcodes = list(pickletools.genops(data))

    assert play(data, Budget()).n_opcodes == len(opcodes)
    if protocol < 4:
        named_there = {tuple(argument.split(" ", 1)) for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"}
        assert {(found.module, found.name) for found in read_pickle(data).globals} == named_there


def test_every_opcode_of_python_is_known():
    known = {opcode.code.encode("latin-1") for opcode in pickletools.opcodes}

    assert set(pickle_machine._NAMED) | {b"."} == known


def test_texts_of_python_2_are_texts_where_they_can_be():
    told = read_pickle(b"(dS'a\\'\\n\\x41\\\\'\nU\x02oksS'b'\nT\x02\0\0\0\xff\x00s.").parameters

    assert told == {"a'\nA\\": "ok", "b": {"kind": "bytes", "n_bytes": 2}}


def test_a_file_is_read_from_its_beginning():
    file = io.BytesIO(pickle.dumps(OBJECTS["minmax scaler"]))
    file.read(7)

    assert read_pickle(file).class_name.endswith(".MinMaxScaler")


# Bad input


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
def test_every_truncated_pickle_is_refused(protocol):
    data = written(OBJECTS["two scalers"], protocol)

    for length in range(len(data)):
        assert refusal(data[:length]).code in {"truncated", "malformed"}, length


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "truncated"),
        (b"\xff", "not_a_pickle"),
        (b"{'a': 1}", "not_a_pickle"),
        (b"PK\x03\x04rest", "not_a_pickle"),
        (b"\x89HDF\r\n\x1a\nrest", "not_a_pickle"),
        (b"\x1f\x8brest", "not_a_pickle"),
        (b"\x78\x9crest", "not_a_pickle"),
        (pickle.dumps(1) + b"\0", "trailing_bytes"),
        (pickle.dumps(1) * 2, "trailing_bytes"),
        (b"\x80\x06N.", "unknown_protocol"),
        (b"Pid\n.", "persistent_id"),
        (b"NQ.", "persistent_id"),
        (b"\x82\x01.", "extension_code"),
        (b"\x83\x01\x00.", "extension_code"),
        (b"\x84\x01\x00\x00\x00.", "extension_code"),
        (b"\x80\x05\x97.", "out_of_band_buffer"),
        (b"Nr\x00\x87\x93\x03.", "memo_index"),
        (b"Np60000000\n.", "memo_index"),
        (b"Np-1\n.", "memo_index"),
        (b"h\x05.", "malformed"),
        (b".", "malformed"),
        (b"R.", "malformed"),
        (b"t.", "malformed"),
        (b"NN.", "malformed"),
        (b"(N.", "malformed"),
        (b"]N\x85b.", "malformed"),
        (b"cos\nenviron\n}b.", "malformed"),
        (b"cos\nX\n)\x81}b}b.", "malformed"),
        (b"cos\nenviron\nNa.", "malformed"),
        (b"cos\nenviron\nNNs.", "malformed"),
        (b"N)R.", "malformed"),
        (b"cos\nX\nNR.", "malformed"),
        (b"cos\nX\n)N\x92.", "malformed"),
        (b"(NNNd.", "malformed"),
        (b"NN\x93.", "malformed"),
        (b"Inonsense\n.", "malformed"),
        (b"Fnonsense\n.", "malformed"),
        (b"Snonsense\n.", "malformed"),
        (b"\x8c\x01\xff.", "malformed"),
        (b"I" + b"1" * 1001 + b"\n.", "number_too_long"),
        (b"L" + b"1" * 5000 + b"L\n.", "number_too_long"),
        (b"c" + b"a" * 401 + b"\nb\n.", "name_too_long"),
        (b"cm\n" + b"a" * 401 + b"\n.", "name_too_long"),
        (b"cm\n" + b"a" * 1_000_000 + b"\n.", "name_too_long"),
    ],
)
def test_what_is_no_pickle_or_needs_a_program_is_refused_with_its_reason(data, code):
    refused = refusal(data)

    assert refused.code == code
    assert refused.message.endswith(".")
    assert 0 <= refused.offset <= len(data)


@pytest.mark.parametrize("name", claims(2**40))
def test_lengths_of_a_terabyte_are_held_against_what_is_there(name):
    refused = refusal(claims(2**40)[name])

    if "negative" in name:
        assert (refused.code, refused.message) == ("malformed", "The pickle claims a negative length.")
    else:
        assert refused.code == "truncated"
        # It is the claim that is refused, before anything is done about it.
        assert "claims" in refused.message


@pytest.mark.parametrize("claimed", [(2**40,), (-1,), (2**62, 2**62), ("a",), None])
def test_joblib_arrays_are_held_against_what_is_there(claimed):
    state = {"dtype": np.dtype("f8"), "shape": claimed, "order": "C", "numpy_array_alignment_bytes": 16}
    data = PROTO_2 + b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + pickle.dumps(state, 2)[2:-1] + b"b\x00."

    assert refusal(data).code in {"truncated", "malformed"}


def test_pickles_of_joblib_in_pickles_of_joblib_are_one_level_deep():
    state = pickle.dumps({"dtype": np.dtype("O"), "shape": (1,), "order": "C"}, 2)[2:-1]
    array = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + state + b"b"

    assert play(PROTO_2 + array + PROTO_2 + b"K\x07..", Budget()).root.array == 7
    # As deep as Python's own stack, if each were read in the one before.
    assert refusal(PROTO_2 + array * 5_000 + b"N" + b"." * 5_001).code == "malformed"


def test_a_refusal_tells_what_was_named_before_it():
    refused = refusal(named("os", "system") + b"NQ.")

    assert [(found.module, found.name, found.grade) for found in list_globals(refused)] == [
        ("os", "system", Grade.FOREIGN)
    ]


def test_an_archive_in_a_pickle_is_reported():
    description = read_pickle(pickle.dumps({"config": ["x", b"PK\x03\x04" + b"." * 30]}))

    assert [(found.code, found.where) for found in description.findings] == [("embedded_archive", "$.config[1]")]


def test_names_that_are_no_names_are_told_in_ascii():
    description = read_pickle(call("os\n\x1b[31m", "sys\N{RIGHT-TO-LEFT OVERRIDE}tem\0", b")"))

    assert description.class_name == "os\\n\\x1b[31m.sys\\u202etem\\x00"


# Budgets: each is reached at its real size, except where that would take gigabytes


def test_budget_of_bytes():
    assert refusal(b"N." + b"x" * 100, Budget(pickle_bytes=101)).code == "too_large"
    assert read_pickle(b"N.", budget=Budget(pickle_bytes=2)).class_name == "builtins.NoneType"


def test_a_file_above_the_budget_of_bytes_is_not_read_whole():
    class Endless(io.RawIOBase):
        taken = 0

        def seek(self, *_):
            return 0

        def read(self, size=-1):
            assert size >= 0
            self.taken += size
            return b"N" * size

    file = Endless()

    with pytest.raises(PickleRefusedError, match="more than 1000 bytes"):
        read_pickle(file, budget=Budget(pickle_bytes=1000))
    assert file.taken == 1001


def test_budget_of_opcodes():
    pairs = b"N0" * (pickle_machine.MAX_OPCODES // 2)

    assert refusal(pairs + b"N.").code == "too_many_opcodes"
    assert read_pickle(pairs[:-2] + b"N.").n_opcodes == pickle_machine.MAX_OPCODES


def test_budget_of_memo_entries():
    data = b"\x80\x04N" + b"\x94" * pickle_machine.MAX_MEMO_ENTRIES

    assert read_pickle(data + b".").class_name == "builtins.NoneType"
    assert refusal(data + b"\x94.").code == "too_many_memo_entries"


def test_budget_of_open_marks():
    most = pickle_machine.MAX_OPEN_MARKS

    assert read_pickle(b"(" * most + b"t" * most + b".").class_name == "builtins.tuple"
    assert refusal(b"(" * (most + 1) + b"t" * (most + 1) + b".").code == "too_deep"


def test_budget_of_memory():
    n_dicts = pickle_machine.MAX_HELD_BYTES // 128

    assert refusal(b"(" + b"}" * (n_dicts + 10) + b"t.").code == "too_much_memory"


def test_budget_of_memory_counts_the_characters_of_texts():
    # One character above U+FFFF makes every character of a text take four bytes.
    one = ("\N{GRINNING FACE}" + "a" * 4000).encode()
    many = b"(" + (b"X" + struct.pack("<I", len(one)) + one) * (pickle_machine.MAX_HELD_BYTES // 16_000) + b"t."

    assert refusal(many).code == "too_much_memory"


def test_budget_of_globals():
    def names(n: int) -> bytes:
        return b"(" + b"".join(b"cm\n%d\n" % index for index in range(n)) + b"t."

    assert len(read_pickle(names(pickle_machine.MAX_GLOBALS)).globals) == 1000
    assert refusal(names(pickle_machine.MAX_GLOBALS + 1)).code == "too_many_globals"


def test_budget_of_attributes_that_are_asked_for():
    asked = b"".join(
        b"cbuiltins\ngetattr\n(cm\nX\n" + b"X\x05\0\0\0%05d" % number + b"tR0"
        for number in range(pickle_machine.MAX_GLOBALS + 1)
    )

    assert len(play(asked + b"N.", Budget()).attributes) == pickle_machine.MAX_GLOBALS


def test_integers_above_64_bytes_are_told_by_their_length():
    holder = StandardScaler(copy=2**511 - 1, with_mean=2**520)

    told = read_pickle(pickle.dumps(holder)).parameters

    assert told["copy"] == {"kind": "integer", "value": str(2**511 - 1)}
    assert told["with_mean"] == {"kind": "integer", "n_bytes": 66}


def cut(value) -> PickleDescription:
    description = read_pickle(pickle.dumps(StandardScaler(copy=value)))
    assert codes(description) == ["description_cut"]
    return description


def test_budget_of_described_values():
    laughing = read_pickle(laughs(60))

    assert codes(laughing) == ["description_cut"]
    assert len(json.dumps(laughing.parameters)) < 100 * pickles.MAX_NODES


def test_budget_of_described_depth():
    deep = None
    for _ in range(pickles.MAX_DEPTH + 5):
        deep = [deep]

    assert json.dumps(cut(deep).parameters["copy"]).endswith('{"kind": "cut"}' + "]" * (pickles.MAX_DEPTH + 1))


def test_budget_of_described_entries():
    assert cut(list(range(150))).parameters["copy"][100:] == [{"kind": "cut", "n_more": 50}]
    assert cut({str(key): key for key in range(150)}).parameters["copy"]["…"] == {"kind": "cut", "n_more": 50}
    assert cut(dict.fromkeys(range(150))).parameters["copy"]["pairs"][100:] == [{"kind": "cut", "n_more": 50}]


def test_budget_of_characters():
    assert len(cut("x" * 1001).parameters["copy"]) == pickles.MAX_CHARACTERS
    # Longer texts are not even decoded.
    told = read_pickle(pickle.dumps(StandardScaler(copy="x" * 5000))).parameters["copy"]
    assert told == {"kind": "text", "n_bytes": 5000}


def test_budget_of_array_values():
    holder = StandardScaler()
    holder.most_, holder.more_ = np.zeros(pickles.MAX_ARRAY_VALUES), np.zeros(pickles.MAX_ARRAY_VALUES + 1)

    fitted = read_pickle(pickle.dumps(holder)).fitted

    assert len(fitted["most_"]["values"]) == 1000
    assert fitted["more_"] == {"kind": "array", "dtype": "<f8", "shape": [1001]}


def test_budget_of_array_bytes():
    arrays = [np.full(1000, index, dtype="f8") for index in range(135)]
    told = cut([arrays[:68], arrays[68:]]).parameters["copy"]

    n_told = sum("values" in array for array in told[0] + told[1])
    assert n_told == pickles.MAX_ARRAY_BYTES // 8000


def test_budget_of_scaler_features():
    def n_scalers(n_features: int) -> int:
        return len(read_pickle(pickle.dumps(MaxAbsScaler().fit(np.ones((2, n_features))))).scalers)

    assert (n_scalers(pickles.MAX_SCALER_FEATURES), n_scalers(pickles.MAX_SCALER_FEATURES + 1)) == (1, 0)


def test_budget_of_scalers_and_estimators_and_archives():
    scalers = [MaxAbsScaler().fit(ROWS) for _ in range(120)]

    description = read_pickle(pickle.dumps(scalers))

    assert len(description.scalers) == pickles.MAX_SCALERS
    assert (len(description.estimators), description.n_estimators) == (pickles.MAX_ESTIMATORS, 120)
    assert codes(description) == ["description_cut"]


def test_budget_of_archives(keras_model):
    def read(n_models: int) -> PickleDescription:
        return read_pickle(pickle.dumps([keras_model(ARCHIVE + b"%d" % number) for number in range(n_models)]))

    most, more = read(pickles.MAX_SCALERS), read(pickles.MAX_SCALERS + 1)
    assert len(most.keras_archives) == len(more.keras_archives) == 100
    assert (codes(most), codes(more)) == ([], ["description_cut"])


def test_budget_of_findings():
    data = b"(" + b"".join(b"cm\n%d\n" % index for index in range(150)) + b"t."

    assert len(read_pickle(data).findings) == pickles.MAX_FINDINGS


def test_budget_of_attributes():
    holder = StandardScaler()
    vars(holder).update({f"a{index}_": index for index in range(pickles.MAX_ATTRIBUTES)})

    description = read_pickle(pickle.dumps(holder))

    assert (description.fitted, codes(description)) == ({}, ["description_cut"])
    assert codes(read_pickle(pickle.dumps([holder]))) == ["description_cut"]


def test_budget_of_attributes_within_an_object():
    def read(n_attributes: int) -> PickleDescription:
        inner = StandardScaler()
        inner.__dict__ = {f"a{number}": number for number in range(n_attributes)} | {"fitted_": 1}
        return read_pickle(pickle.dumps(StandardScaler(copy=inner)))

    # The version of scikit-learn is one more, which is not shown.
    most, more = read(pickles.MAX_ENTRIES), read(pickles.MAX_ENTRIES + 1)
    assert len(most.parameters["copy"]["parameters"]) == len(more.parameters["copy"]["parameters"]) == 100
    assert (codes(most), codes(more)) == ([], ["description_cut"])


def test_budget_of_visited_objects():
    most = pickles.MAX_VISITED

    assert codes(read_pickle(b"(" + b"]" * (most - 10) + b"t.")) == []
    assert codes(read_pickle(b"(" + b"]" * (most + 10) + b"t.")) == ["description_cut"]


def test_budget_of_characters_of_a_path_step():
    def path(n_characters: int) -> str:
        (found,) = read_pickle(pickle.dumps({"k" * n_characters: MaxAbsScaler()})).estimators
        return found.path

    most = pickles.MAX_CHARACTERS
    assert (path(most), path(most + 1)) == (f"$.{'k' * most}", "$[...]")


def test_budget_of_dimensions():
    def told(n_dimensions: int) -> dict:
        holder = StandardScaler()
        holder.values_ = np.zeros((1,) * 60)
        shape = pickle.dumps((1,) * 60, 4)[2:-1].partition(b"(")[2].partition(b"t")[0]
        data = pickle.dumps(holder, 2)
        assert data.count(shape) == 1
        return read_pickle(data.replace(shape, b"K\x01" * n_dimensions)).fitted["values_"]

    assert (told(64)["kind"], told(65)["kind"]) == ("array", "object")


def test_bytes_that_cannot_be_an_arrays_are_not_decoded(monkeypatch):
    scaler = MaxAbsScaler().fit(ROWS)
    data = pickle.dumps(scaler, 5)
    monkeypatch.setattr(pickles, "read_payload", lambda *_: pytest.fail("decoded"))

    # Three numbers are 24 bytes; of another claim they are too many or too few.
    for claimed in (b"K\x00\x85", b"K\x04\x85"):
        assert "values" not in read_pickle(data.replace(b"K\x03\x85", claimed)).fitted["scale_"]


def test_budget_of_path_steps():
    value = MaxAbsScaler()
    for _ in range(50):
        value = [value]

    (found,) = read_pickle(pickle.dumps(value)).estimators

    assert found.path == "$..." + "[0]" * (pickles.MAX_PATH_STEPS + 1)


def test_keys_are_not_hashed():
    # pickle.loads takes 2**60 steps for the one, and ends the process on the C stack with the other.
    assert read_pickle(hash_bomb(60)).class_name == "builtins.dict"
    assert read_pickle(deep_key(200_000)).class_name == "builtins.dict"


def test_a_million_levels_are_read_without_a_stack():
    assert read_pickle(b"N" + b"\x85" * 1_000_000 + b".").class_name == "builtins.tuple"


def test_an_object_that_holds_itself_is_cut():
    value: list[object] = []
    value.append(value)

    assert codes(read_pickle(pickle.dumps(StandardScaler(copy=value)))) == ["description_cut"]


def test_a_huge_empty_array_stored_by_columns_takes_no_time():
    holder = StandardScaler()
    holder.empty_ = np.zeros((2**31 - 1, 0), order="F")

    told = read_pickle(pickle.dumps(holder, 4)).fitted["empty_"]

    assert (told["shape"], told["values"]) == ([2**31 - 1, 0], [])

"""Legacy documents become models, scalers, pictures and tables; on fakes, with real pickles."""

import base64
import hashlib
import json
import pickle
import random

import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from shared import legacy, legacy_documents
from shared.errors import (
    DatabaseUnavailableError,
    ManifestInvalidError,
    ModelUnavailableError,
    ObjectNotFoundError,
    RunNotFoundError,
    ServiceError,
    SessionBusyError,
    StorageUnavailableError,
)
from shared.legacy import LEASE_S
from shared.models import Choice
from shared.records.claims import ClaimOutcome
from shared.records.documents import DocumentStatus
from shared.records.results import ResultKind
from shared.records.training import ModelStatus
from shared.web.manifest import functions
from tests.factories import ALICE, BOB, a_caller, a_uuid
from tests.fakes.objects import InMemoryObjectStore
from tests.fakes.sessions import InMemorySessions
from tests.hostile_pickles import hostile_pickles
from tests.interruption import Interruption, Killed, every_interruption
from tests.legacy_factories import LegacyBench, a_model_node, a_png, in_base64
from tests.pickled_models import NAMED, NUMBERS, ROWS, written
from tests.training_factories import a_zip

LINEAR = pickle.dumps(LinearRegression().fit(ROWS, NUMBERS))
FOREST = pickle.dumps(RandomForestRegressor(3, max_depth=3, random_state=1).fit(ROWS, NUMBERS))
SCALER = pickle.dumps(MinMaxScaler().fit(NAMED))
PIPELINE = pickle.dumps(make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, NUMBERS))


def a_document():
    """Return a document with something of each kind."""
    return {
        "results": {
            "folds": [
                {"model": a_model_node(FOREST, "RandomForestRegressor"), "metrics": {"rmse": 1.5, "r2": 0.9}},
                {"model": a_model_node(PIPELINE, "Pipeline")},
            ],
            "input scaler": a_model_node(SCALER, "MinMaxScaler"),
            "plot": "data:image/png;base64," + in_base64(a_png(3, 2)),
        }
    }


def results(bench, kind):
    return [item.content for item in bench.runs.results(a_caller(), "weather", kind)]


def detail_of(bench):
    (document,) = bench.listing().documents.values()
    return document.detail


def findings_of(bench):
    return [(finding["code"], finding["path"]) for finding in detail_of(bench)["findings"]]


def read(document):
    """Bring a document in and read it; return its bench."""
    bench = LegacyBench()
    if isinstance(document, bytes):
        bench.import_object(document)
    else:
        bench.import_document(document)
    bench.save()
    return bench


def refusal_of(content):
    """Return why a document is refused."""
    bench = read(content)
    (document,) = bench.listing().documents.values()
    assert document.status is DocumentStatus.REFUSED
    assert bench.listing().models == []
    assert all(name.startswith("results/") for name in bench.artifacts.names())
    return document.detail


def test_models_are_found_at_any_depth_by_their_path():
    bench = read(a_document())
    models = bench.by_path()
    assert {path: (model.name, model.class_name, model.framework, model.status) for path, model in models.items()} == {
        "results.folds[0].model": (
            "results.folds.0.model",
            "sklearn.ensemble._forest.RandomForestRegressor",
            "sklearn",
            "ready",
        ),
        "results.folds[1].model": ("results.folds.1.model", "sklearn.pipeline.Pipeline", "sklearn", "ready"),
        'results["input scaler"]': (
            "results.input.scaler",
            "sklearn.preprocessing._data.MinMaxScaler",
            "sklearn",
            "ready",
        ),
    }
    assert {model.origin for model in models.values()} == {"legacy"}
    assert {model.version for model in models.values()} == {1}


def test_a_pickle_is_kept_byte_for_byte_and_flagged():
    bench = read(a_document())
    model = bench.by_path()["results.folds[0].model"]
    (file,) = model.files
    assert (file.format, file.loads_code, file.size_bytes) == ("pkl", True, len(FOREST))
    assert file.sha256 == hashlib.sha256(FOREST).hexdigest()
    assert file.object_name == f"models/{bench.session_uuid}/{model.id}.pkl"
    assert bench.artifacts.content(file.object_name) == FOREST


def test_what_a_pickle_says_of_itself_is_shown():
    bench = read(a_document())
    published = bench.by_path()["results.folds[0].model"].published
    assert published["params"]["n_estimators"] == 3
    assert published["environment"]["scikit-learn"].count(".") == 2
    assert "numpy>=2" in published["requirements"]
    assert {"name": "sklearn.tree._tree.Tree", "grade": "estimator"} in published["imports"]


def test_listing_an_unread_document_reads_nothing_and_says_so():
    bench = LegacyBench()
    run_id = bench.import_document(a_document())
    listing = bench.listing()
    assert listing.models == []
    assert {key: one.status for key, one in listing.documents.items()} == {run_id: DocumentStatus.UNREAD}
    assert bench.artifacts.names() == []


def test_a_document_is_read_once(monkeypatch):
    bench = LegacyBench()
    run_id = bench.import_document(a_document())
    first = bench.save()
    monkeypatch.setattr(bench.documents, "read", lambda *_: pytest.fail("it is read again"))
    assert bench.save() == first
    assert bench.listing().documents[run_id].status is DocumentStatus.READ


def test_what_was_read_is_named_with_its_checksum():
    bench = LegacyBench()
    content = json.dumps(a_document()).encode()
    bench.import_object(content)
    entry = bench.save().models[0]
    assert entry.run.manifest == {
        "object": f"results/{bench.session_uuid}/legacy.json",
        "generation": bench.artifacts.stat(f"results/{bench.session_uuid}/legacy.json").generation,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_scalers_are_rows_with_numbers_and_formulas():
    bench = read(a_document())
    of_pipeline, alone = results(bench, ResultKind.SCALERS)
    assert (of_pipeline["model"], of_pipeline["type"]) == ("results.folds.1.model", "standard")
    assert (alone["name"], alone["type"]) == ("results.input.scaler", "minmax")
    assert (alone["formula"], alone["inverse"]) == ("x * scale + min", "(x - min) / scale")
    assert list(alone["feature_names"]) == list(NAMED.columns)
    assert alone["params"]["data_min"] == pytest.approx(NAMED.min().tolist())


@pytest.mark.parametrize("prefix", ["data:image/png;base64,", "DATA:image/PNG;charset=utf-8;base64,", ""])
def test_pictures_are_objects_with_their_size(prefix):
    prefix = prefix.replace("DATA", "data")
    bench = read({"plots": [{"loss": prefix + in_base64(a_png(30, 20))}]})
    (picture,) = results(bench, ResultKind.VISUALIZATIONS)
    assert (picture["name"], picture["kind"], picture["path"]) == ("plots.0.loss", "picture", "plots[0].loss")
    assert (picture["width"], picture["height"], picture["media_type"]) == (30, 20, "image/png")
    assert picture["object"].startswith(f"pictures/{bench.session_uuid}/")
    assert bench.artifacts.content(picture["object"]) == a_png(30, 20)
    assert picture["sha256"] == hashlib.sha256(a_png(30, 20)).hexdigest()


@pytest.mark.parametrize(
    "content", [a_png()[:-1], a_png() + b"<script>", a_png(0, 1), a_png(30_000, 1), a_png()[:12], a_png()[:40]]
)
def test_what_only_begins_as_a_picture_is_told(content):
    bench = read({"plot": in_base64(content)})
    assert results(bench, ResultKind.VISUALIZATIONS) == []
    assert findings_of(bench) == [("picture_invalid", "plot")]


def test_a_picture_of_another_kind_is_told():
    assert findings_of(read({"plot": "data:image/svg+xml;base64,PHN2Zz4="})) == [("picture_unsupported", "plot")]


@pytest.mark.parametrize(
    ("value", "columns", "rows"),
    [
        ({"rmse": 1.5, "note": "good"}, ["name", "value"], [["rmse", "1.5"], ["note", "good"]]),
        ([{"model": "a", "rmse": 1}, {"model": "b"}], ["model", "rmse"], [["a", 1], ["b", None]]),
        ({"model": ["a", "b"], "rmse": [1, 2.5]}, ["model", "rmse"], [["a", 1], ["b", 2.5]]),
        ({"train": {"rmse": 1}, "test": {"rmse": 2}}, ["rmse", "name"], [[1, "train"], [2, "test"]]),
    ],
)
def test_evaluation_tables_are_recognized(value, columns, rows):
    bench = read({"run": {"evaluation_table": value}})
    (table,) = results(bench, ResultKind.EVALUATION_TABLES)
    assert (table["name"], [column["name"] for column in table["columns"]]) == ("run.evaluation_table", columns)
    assert [[row.get(name) for name in columns] for row in table["rows"]] == rows


def test_tables_are_found_within_an_evaluation():
    bench = read({"evaluation": {"a": {"metrics": {"rmse": 1}, "deep": {"x": [[1]]}}, "b": [1, 2]}})
    assert [table["path"] for table in results(bench, ResultKind.EVALUATION_TABLES)] == ["evaluation.a.metrics"]


@pytest.mark.parametrize("value", [3, "good", [], {}, [1, 2], {"a": "b"}, {"a": [1], "b": [1, 2]}, [{}], {"a": [[1]]}])
def test_what_is_no_table_is_left_in_the_document(value):
    assert results(read({"metrics": value}), ResultKind.EVALUATION_TABLES) == []


def test_a_number_that_is_none_is_null_and_told():
    bench = read(b'{"metrics": {"rmse": NaN, "mae": -Infinity, "r2": 1}}')
    (table,) = results(bench, ResultKind.EVALUATION_TABLES)
    assert [row["value"] for row in table["rows"]] == [None, None, 1]
    assert findings_of(bench) == [("not_a_number", "metrics.rmse"), ("not_a_number", "metrics.mae")]


def test_a_number_beyond_those_of_64_bits_is_null_and_told():
    bench = read(json.dumps({"metrics": {"rmse": -(10**400), "r2": 10**300}}).encode())
    (table,) = results(bench, ResultKind.EVALUATION_TABLES)
    assert [row["value"] for row in table["rows"]] == [None, 1e300]
    assert detail_of(bench)["findings"] == [
        {
            "code": "not_a_number",
            "message": "A number beyond 1.8e308 is no number that is kept; it is taken as null.",
            "path": "metrics.rmse",
        }
    ]


@pytest.mark.parametrize("table", [[{"a\0b": 1}], {"a\0b": [1]}])
def test_a_name_of_a_column_holds_no_character_that_is_none(table):
    (found,) = results(read({"metrics": table}), ResultKind.EVALUATION_TABLES)
    assert found["columns"] == [{"name": "a\N{SYMBOL FOR NULL}b", "type": "number"}]
    assert found["rows"] == [{"a\N{SYMBOL FOR NULL}b": 1}]


@pytest.mark.parametrize(("trick", "content"), hostile_pickles().items())
def test_a_hostile_pickle_is_never_ready_and_the_rest_is_taken_in(trick, content, tmp_path):
    bench = read({"bad": [a_model_node(content, "sklearn.MinMaxScaler")], "good": a_model_node(LINEAR)})
    models = bench.by_path()
    assert models["good"].status is ModelStatus.READY
    bad = models["bad[0]"]
    if trick == "billion laughs":
        # A scaler of scikit-learn, with lists in it that are not looked at.
        assert bad.class_name == "sklearn.preprocessing._data.StandardScaler"
        return
    assert bad.status in {ModelStatus.REFUSED, ModelStatus.UNSUPPORTED}
    assert bad.status_detail
    if bad.status is ModelStatus.REFUSED:
        assert bad.files == ()
        (finding,) = bad.published["findings"]
        assert f"(byte {finding['where'].removeprefix('byte ')})" in bad.status_detail
        assert bad.status_detail.endswith(f"({finding['code']})")


def test_what_is_no_model_can_be_had_as_it_came_and_in_no_other_form():
    bench = read({"thing": a_model_node(pickle.dumps({"a": 1}), "dict")})
    download = bench.models().download
    assert download(a_caller(), "weather", Choice(path="thing", form="pkl")).url
    for choice in (Choice(path="thing"), Choice(path="thing", form="h5")):
        with pytest.raises(ModelUnavailableError) as caught:
            download(a_caller(), "weather", choice)
        assert caught.value.details["available"] == ["pkl"]
        assert "no model of scikit-learn or Keras but builtins.dict" in caught.value.message


def test_the_old_way_to_ask_for_a_model_of_scikit_learn_gives_its_pickle():
    bench = read({"m": a_model_node(LINEAR)})
    url = bench.models().download(a_caller(), "weather", Choice(framework="sklearn")).url
    assert bench.by_path()["m"].files[0].object_name in url


def test_a_refused_model_cannot_be_had():
    bench = read({"thing": a_model_node(b"\x80\x04")})
    with pytest.raises(ModelUnavailableError) as caught:
        bench.models().download(a_caller(), "weather", Choice(path="thing", form="pkl"))
    assert caught.value.details["available"] == []


def test_a_wrong_class_is_told_and_what_was_read_counts():
    model = read({"m": a_model_node(LINEAR, "keras.Sequential")}).by_path()["m"]
    assert (model.class_name, model.claimed_class) == (
        "sklearn.linear_model._base.LinearRegression",
        "keras.Sequential",
    )
    assert model.framework == "sklearn"
    assert [finding["code"] for finding in model.published["findings"]] == ["class_mismatch"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("gASVAA==!!", "character that is none, at 8"),
        ("gASV\u00e4AAA", "character that is none, at 4"),
        ("gASVA", "cut short"),
        ("gAS=gASV", "in the middle"),
        ("", "empty"),
    ],
)
def test_base64_with_garbage_is_refused_where_it_begins(data, text):
    node = a_model_node(b"") | {"_model_data": data}
    models = read({"a": {"b": [node]}, "good": a_model_node(LINEAR)}).by_path()
    assert models["a.b[0]"].status is ModelStatus.REFUSED
    assert text in models["a.b[0]"].status_detail
    assert models["good"].status is ModelStatus.READY


def test_base64_in_lines_is_read():
    node = a_model_node(LINEAR) | {"_model_data": base64.encodebytes(LINEAR * 1).decode()}
    assert read({"m": node}).by_path()["m"].status is ModelStatus.READY


@pytest.mark.parametrize("content", [a_zip("model.pkl"), b"\x1f\x8b" + LINEAR])
def test_a_pickle_in_something_else_is_refused(content):
    model = read({"m": a_model_node(content)}).by_path()["m"]
    assert (model.status, model.files) == (ModelStatus.REFUSED, ())


def test_trailing_bytes_are_refused():
    model = read({"m": a_model_node(LINEAR + b"more")}).by_path()["m"]
    assert model.status is ModelStatus.REFUSED
    assert f"(byte {len(LINEAR) - 1}) (trailing_bytes)" in model.status_detail


def test_a_pickle_without_a_node_around_it_is_found_by_how_it_begins():
    models = read({"scaler": in_base64(SCALER), "text": "gAS is no pickle", "other": "gASVAAAA"}).by_path()
    assert list(models) == ["scaler"]
    assert models["scaler"].status is ModelStatus.READY


@pytest.mark.parametrize("protocol", range(7))
def test_every_protocol_and_joblib_is_read(protocol):
    model = read({"m": a_model_node(written(StandardScaler().fit(ROWS), protocol))}).by_path()["m"]
    assert model.status is ModelStatus.READY


@pytest.mark.parametrize(
    ("node", "status", "detail"),
    [
        ({"_model_type": "serialized_model"}, ModelStatus.REFUSED, "The object has no _model_data."),
        ({"_model_type": "serialized_model", "_model_data": 3}, ModelStatus.REFUSED, "The object has no _model_data."),
    ],
)
def test_a_model_without_data_is_refused(node, status, detail):
    model = read({"m": node}).by_path()["m"]
    assert (model.status, model.status_detail) == (status, detail)


def test_data_without_the_type_of_a_model_is_told():
    bench = read({"m": {"_model_data": in_base64(LINEAR), "_model_type": "other"}})
    assert bench.by_path() == {}
    assert findings_of(bench) == [("model_type_unknown", "m")]


def test_models_in_models_are_found():
    node = a_model_node(LINEAR) | {"inner": a_model_node(FOREST)}
    assert set(read({"m": node}).by_path()) == {"m", "m.inner"}


def test_repeated_keys_are_told_and_lose_nothing():
    node = json.dumps(a_model_node(LINEAR))
    bench = read(f'{{"m": {node}, "m": {node}, "x": 1, "x": 2}}'.encode())
    first, second = bench.by_path()
    assert first == "m"
    assert second.startswith("m#")
    assert findings_of(bench) == [("duplicate_key", "m"), ("duplicate_key", "x")]
    assert len({model.name for model in bench.by_path().values()}) == 2


def test_a_model_whose_own_keys_repeat_is_refused():
    node = json.dumps(a_model_node(LINEAR))
    models = read(f'{{"m": {node[:-1]}, "_model_data": "gASV"}}}}'.encode()).by_path()
    assert models["m"].status is ModelStatus.REFUSED
    assert models["m"].status_detail == "The object has _model_data twice."


def test_what_lies_too_deep_is_told_and_the_rest_is_taken_in():
    n_levels = 10_000
    deep = b'{"a":[' * n_levels + json.dumps(a_model_node(LINEAR)).encode() + b"]}" * n_levels
    bench = read(b'{"deep":' + deep + b',"good":' + json.dumps(a_model_node(LINEAR)).encode() + b"}")
    assert list(bench.by_path()) == ["good"]
    ((code, path),) = findings_of(bench)
    assert code == "too_deep"
    assert len(path) <= legacy_documents.MAX_PATH_CHARACTERS


def test_a_long_path_is_abridged_and_stays_unique():
    document = {"x" * 90: {"y" * 90: {"z" * 90: {"w" * 90: {"v" * 90: {k: a_model_node(LINEAR) for k in "ab"}}}}}}
    models = read(document).by_path()
    assert len(models) == 2
    assert all(len(path) <= legacy_documents.MAX_PATH_CHARACTERS for path in models)
    assert all(len(model.name) <= 128 for model in models.values())


@pytest.mark.parametrize("key", ["", "a.b", 'a"b\\', "a\nb\0", "Höhe", "\u202e", "k" * 1_000, "../../x"])
def test_any_key_gives_a_path_and_a_plain_name(key):
    (path,) = read({key: a_model_node(LINEAR)}).by_path()
    assert path.isprintable()
    (model,) = read({key: a_model_node(LINEAR)}).by_path().values()
    assert model.name.isascii()
    assert "/" not in model.name


def test_a_document_that_is_one_model_has_the_path_of_the_root():
    assert list(read(a_model_node(LINEAR)).by_path()) == ["$"]


@pytest.mark.parametrize("document", [[], {}, 3, None, "text", [[]], {"a": None}])
def test_a_document_without_models_is_read_too(document):
    bench = read(json.dumps(document).encode())
    assert detail_of(bench) == {"models": 0, "scalers": 0, "pictures": 0, "tables": 0, "findings": []}


def test_a_document_that_breaks_off_is_refused_whole_with_its_place():
    content = json.dumps({"a": {"good": a_model_node(LINEAR), "b": [1, 2, 3]}}).encode()
    detail = refusal_of(content[:-4])
    assert (detail["code"], detail["path"]) == ("not_json", "a.b[2]")
    assert len(content) - 8 <= detail["byte"] <= len(content)


def test_bytes_after_a_document_are_refused():
    assert refusal_of(b'{"a": 1} {"b": 2}')["code"] == "not_json"


# Budgets


@pytest.mark.parametrize(
    ("name", "things", "document"),
    [
        ("MAX_MODELS", "models", [a_model_node(LINEAR), a_model_node(LINEAR)]),
        ("MAX_MODELS", "models", [in_base64(LINEAR), in_base64(LINEAR)]),
        ("MAX_PICTURES", "pictures", [in_base64(a_png()), in_base64(a_png())]),
        ("MAX_TABLES", "evaluations", [{"metrics": {"rmse": 1}}, {"metrics": {"rmse": 1}}]),
        ("MAX_VALUES", "values", [1]),
    ],
)
def test_a_document_that_asks_for_too_much_is_refused(monkeypatch, name, things, document):
    monkeypatch.setattr(legacy_documents, name, 1)
    detail = refusal_of(json.dumps(document).encode())
    assert (detail["code"], detail["message"]) == ("too_much", f"It has more than 1 {things}.")
    monkeypatch.undo()
    read(document)


def test_keys_beyond_those_that_are_remembered_are_not_compared(monkeypatch):
    monkeypatch.setattr(legacy_documents, "MAX_KEYS", 2)
    assert findings_of(read(b'{"a": 1, "a": 2, "b": 1, "c": 1, "c": 2}')) == [("duplicate_key", "a")]
    # Those of an object are forgotten with it.
    assert findings_of(read(b'{"a": {"b": 1}, "c": 1, "c": 2}')) == [("duplicate_key", "c")]


def test_no_more_findings_are_kept_than_a_row_can_show():
    assert len(findings_of(read(b"[" + b"NaN," * legacy_documents.MAX_FINDINGS + b"NaN]"))) == 100


def test_an_evaluation_of_more_values_than_a_table_has_is_none():
    row = {f"m{number}": number for number in range(9)}
    # The list and each row are values too: 1 + 499 * (1 + 9) + (1 + 8).
    most = [row] * 499 + [{name: row[name] for name in list(row)[:8]}]
    assert legacy_documents.MAX_TABLE_VALUES == 5_000
    assert len(results(read({"metrics": most}), ResultKind.EVALUATION_TABLES)) == 1
    assert results(read({"metrics": [row] * 500}), ResultKind.EVALUATION_TABLES) == []


def test_a_long_text_is_no_cell_of_a_table():
    def n_tables(n_characters):
        return len(results(read({"metrics": {"rmse": 1, "note": "x" * n_characters}}), ResultKind.EVALUATION_TABLES))

    assert [n_tables(legacy_documents.MAX_CELL_CHARACTERS + more) for more in (0, 1)] == [1, 0]


def test_what_is_too_long_for_a_class_is_not_told_as_one():
    def claimed(n_characters):
        return read({"m": a_model_node(LINEAR, "x" * n_characters)}).by_path()["m"].claimed_class

    assert [claimed(legacy_documents.MAX_CLASS_CHARACTERS + more) for more in (0, 1)] == ["x" * 400, None]


@pytest.mark.parametrize("lacks", [0, 1])
def test_models_in_models_have_their_room_together(monkeypatch, lacks):
    monkeypatch.setattr(legacy_documents, "MAX_MODEL_BYTES", len(FOREST) + len(LINEAR) - lacks)
    node = a_model_node(FOREST) | {"inner": a_model_node(LINEAR)}
    models = read({"m": node, "after": a_model_node(FOREST)}).by_path()
    assert models["m"].status is models["after"].status is ModelStatus.READY
    assert models["m.inner"].status is (ModelStatus.UNSUPPORTED if lacks else ModelStatus.READY)


@pytest.mark.parametrize("prefix", ["data:image/png;base64,", ""])
@pytest.mark.parametrize("lacks", [0, 1])
def test_a_picture_that_is_too_large_is_told(monkeypatch, prefix, lacks):
    monkeypatch.setattr(legacy_documents, "MAX_PICTURE_BYTES", len(a_png()) - lacks)
    bench = read({"plot": prefix + in_base64(a_png())})
    assert len(results(bench, ResultKind.VISUALIZATIONS)) == 1 - lacks
    assert findings_of(bench) == [("picture_invalid", "plot")] * lacks


def test_scalers_beyond_what_is_listed_are_told(monkeypatch):
    monkeypatch.setattr(legacy, "MAX_SCALERS", 1)
    bench = read({"a": a_model_node(SCALER), "b": a_model_node(SCALER)})
    assert [scaler["name"] for scaler in results(bench, ResultKind.SCALERS)] == ["a"]
    assert findings_of(bench) == [("too_many_scalers", "b")]


def test_parameters_that_no_list_can_show_are_left_out_and_told(monkeypatch):
    document = {"m": a_model_node(FOREST, "RandomForestRegressor")}
    published = read(document).by_path()["m"].published
    monkeypatch.setattr(legacy, "MAX_DESCRIPTION_CHARACTERS", len(json.dumps(published["params"])) - 1)
    cut = read(document).by_path()["m"].published
    assert (published["findings"], cut["params"]) == ([], {})
    assert [finding["code"] for finding in cut["findings"]] == ["description_cut"]


def test_of_a_long_import_list_the_beginning_is_kept():
    content = b"(" + b"".join(b"cm\n%d\n" % index for index in range(legacy.MAX_IMPORTS + 1)) + b"t."
    imports = read({"m": a_model_node(content)}).by_path()["m"].published["imports"]
    assert [entry["name"] for entry in imports] == [f"m.{index}" for index in range(legacy.MAX_IMPORTS)]


def test_a_model_that_is_too_large_is_unsupported_and_the_rest_is_taken_in(monkeypatch):
    monkeypatch.setattr(legacy_documents, "MAX_MODEL_BYTES", len(LINEAR))
    models = read({"large": a_model_node(FOREST), "small": a_model_node(LINEAR)}).by_path()
    assert models["large"].status is ModelStatus.UNSUPPORTED
    assert f"more than {len(LINEAR)} bytes" in models["large"].status_detail
    assert models["small"].status is ModelStatus.READY


def test_a_document_whose_object_is_missing_is_refused():
    bench = LegacyBench()
    bench.import_object(b"{}")
    bench.artifacts.delete(bench.artifacts.list("results/"))
    bench.save()
    assert detail_of(bench)["code"] == "object_missing"


def test_two_documents_of_a_session_may_have_the_same_paths():
    bench = LegacyBench()
    bench.import_document({"m": a_model_node(LINEAR)})
    bench.import_document({"m": a_model_node(FOREST)})
    bench.save()
    assert [(one.model.path, one.model.version) for one in bench.listing().models] == [("m", 1), ("m", 2)] or [
        (one.model.path, one.model.version) for one in bench.listing().models
    ] == [("m", 2), ("m", 1)]


def test_a_bad_manifest_does_not_keep_a_document_from_being_read():
    bench = LegacyBench()
    bench.import_document({"m": a_model_node(LINEAR)})
    bench.artifacts.write(f"results/{bench.session_uuid}/{a_uuid()}/manifest.json", b"{", "application/json")
    with pytest.raises(ManifestInvalidError):
        bench.save()
    assert bench.by_path()["m"].status is ModelStatus.READY


def test_while_one_call_reads_the_other_is_told_to_come_again():
    bench = LegacyBench()
    run_id = bench.import_document(a_document())
    assert bench.documents.claim(ALICE, run_id, a_uuid(), 60).outcome is ClaimOutcome.CLAIMED
    with pytest.raises(SessionBusyError) as caught:
        bench.save()
    assert (caught.value.retryable, caught.value.details) == (True, {"run_id": run_id})
    assert caught.value.retry_after_s == 30
    bench.database.advance(seconds=61)
    assert len(bench.save().models) == 3


def test_a_lease_is_longer_than_the_function_may_run():
    assert functions()["save-model"].timeout_s < LEASE_S


def rows_of(bench):
    models = [
        (model.id, model.path, model.status, model.version, [(file.format, file.sha256) for file in model.files])
        for model in bench.by_path().values()
    ]
    return models, [len(results(bench, kind)) for kind in ResultKind], bench.artifacts.names()


def test_killed_at_any_call_and_repeated_it_ends_the_same():
    whole = LegacyBench()
    whole.import_document(a_document())
    whole.save()
    for interruption in every_interruption():
        bench = LegacyBench()
        bench.import_document(a_document())
        try:
            bench.save(documents=interruption.wrap(bench.documents), artifacts=interruption.wrap(bench.artifacts))
        except Killed:
            bench.database.advance(seconds=LEASE_S + 1)
        models = bench.save().models
        assert len(models) == 3, interruption
        described = [[len(results(bench, kind)) for kind in ResultKind], len(bench.artifacts.names())]
        assert described == [[len(results(whole, kind)) for kind in ResultKind], len(whole.artifacts.names())]
        for entry in models:
            for file in entry.model.files:
                content = bench.artifacts.content(file.object_name)
                assert hashlib.sha256(content).hexdigest() == file.sha256, interruption


@pytest.mark.parametrize("error", [StorageUnavailableError, DatabaseUnavailableError])
def test_a_fault_leaves_the_document_to_the_next_call(error):
    for interruption in every_interruption():
        bench = LegacyBench()
        bench.import_document(a_document())
        try:
            bench.save(
                documents=interruption.wrap(bench.documents, error), artifacts=interruption.wrap(bench.artifacts, error)
            )
        except ServiceError:
            bench.database.advance(seconds=LEASE_S + 1)
        assert len(bench.save().models) == 3, interruption


def test_an_object_that_is_there_with_other_bytes_is_not_taken_for_ours():
    bench = LegacyBench()
    bench.import_document({"m": a_model_node(LINEAR)})
    original = InMemoryObjectStore.write

    class Tampering:
        def __getattr__(self, name):
            return getattr(bench.artifacts, name)

        def write(self, name, content, media_type):
            return original(bench.artifacts, name, b"other", media_type)

    bench.save(artifacts=Tampering())
    assert detail_of(bench)["code"] == "object_differs"
    assert bench.artifacts.names() == []


def test_a_session_that_is_deleted_meanwhile_keeps_no_object():
    bench = LegacyBench()
    bench.import_document({"m": a_model_node(LINEAR)})

    class Deleting:
        def __getattr__(self, name):
            return getattr(bench.documents, name)

        def record(self, *arguments):
            InMemorySessions(bench.database).begin_delete(ALICE, "weather")
            return bench.documents.record(*arguments)

    with pytest.raises(RunNotFoundError):
        bench.save(documents=Deleting())
    assert bench.artifacts.names() == []


def test_a_model_object_that_vanishes_while_it_is_checked_can_be_tried_again():
    bench = LegacyBench()
    bench.import_document({"m": a_model_node(LINEAR)})
    interruption = Interruption(2, is_after_effect=False)
    with pytest.raises(SessionBusyError):
        bench.save(artifacts=interruption.wrap(bench.artifacts, lambda: ObjectNotFoundError("m")))
    assert len(bench.save().models) == 1


def test_whatever_is_changed_in_a_document_it_is_read_or_refused():
    content = json.dumps(a_document()).encode()
    chance = random.Random(5)
    states = set()
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 3, 20))):
            at = chance.randrange(len(changed))
            changed[at : at + chance.choice((0, 1, 1, 50))] = chance.choice(
                (b'"', b"{", b"]", b"A", b"\\", b"\0", b"NaN")
            )
        bench = read(bytes(changed))
        (document,) = bench.listing().documents.values()
        states.add(document.status)
        for model in bench.by_path().values():
            for file in model.files:
                assert hashlib.sha256(bench.artifacts.content(file.object_name)).hexdigest() == file.sha256
    assert states == {DocumentStatus.READ, DocumentStatus.REFUSED}


def test_a_document_of_another_user_is_not_found():
    bench = LegacyBench()
    run_id = bench.import_document({})
    with pytest.raises(RunNotFoundError):
        bench.documents.claim(BOB, run_id, a_uuid(), 60)

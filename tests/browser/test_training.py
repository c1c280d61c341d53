import io
import re
import zipfile

import pytest
from playwright.sync_api import expect

from trainshed.upload import upload_file


def choose_models(tab, *names):
    """Choose what to predict, and by which models."""
    tab.page.get_by_label("Column to predict").select_option("price")
    expect(tab.page.get_by_role("radio", name=re.compile("Regression"))).to_be_checked()
    boxes = tab.page.get_by_role("checkbox")
    for name in names:
        expect(boxes.and_(tab.page.locator(f"[value={name}]"))).to_be_visible()
    for box in boxes.all():
        box.set_checked(box.get_attribute("value") in names)


def begin_and_hear(tab, session_id):
    """Press the button of a training, and return what is asked of the service, which refuses."""
    asked = []
    refusal = {"code": "invalid_field", "detail": "Not today.", "status": 422, "retryable": False}

    def refuse(route):
        if route.request.method == "POST":
            asked.append(route.request.post_data_json)
            route.fulfill(status=422, json=refusal)
        else:
            route.continue_()

    tab.page.route(re.compile(f"/train/{session_id}$"), refuse)
    tab.click(re.compile("^Train \\d models?$"))
    expect(tab.page.get_by_role("alert")).to_contain_text("Not today.")
    (wish,) = asked
    return wish


def test_classes_are_trained_as_they_were_chosen(open_tab, trained):
    tab = open_tab(strict=False)
    tab.go_to_session(trained, "training")
    tab.click("Train again")
    tab.page.get_by_label("Column to predict").select_option("side")
    tab.page.get_by_role("radio", name=re.compile("^Classification")).check()
    tab.page.get_by_role("checkbox", name=re.compile("^Dense network")).uncheck()
    tab.page.get_by_label(re.compile("^Held out for the test")).fill("35")
    tab.page.get_by_label("Seed").fill("7")

    wish = begin_and_hear(tab, trained)

    assert wish["models"]
    assert "dense_network" not in wish["models"]
    assert wish | {"models": []} == {
        "target": "side",
        "task": "classification",
        "models": [],
        "testFraction": 0.35,
        "seed": 7,
    }


def test_a_time_series_is_trained_as_it_was_chosen(open_tab, trained):
    tab = open_tab(strict=False)
    tab.go_to_session(trained, "training")
    tab.click("Train again")
    tab.page.get_by_role("radio", name=re.compile("^Time series")).check()
    tab.page.get_by_label("Column with the time").select_option("area")
    tab.page.get_by_label("Steps to forecast").fill("12")

    wish = begin_and_hear(tab, trained)

    assert (wish["target"], wish["task"], wish["timeColumn"], wish["horizon"]) == ("price", "time_series", "area", 12)


def test_training_is_started_watched_and_its_models_compared(open_tab, new_data_set):
    data_set = new_data_set()
    tab = open_tab()
    tab.go_to_session(data_set, "training")
    choose_models(tab, "linear_regression", "random_forest")

    tab.click("Train 2 models")

    expect(tab.page.locator("[data-model]")).to_have_count(2)
    for model in ("linear_regression", "random_forest"):
        expect(tab.page.locator(f"[data-model={model}]")).to_have_attribute("data-status", "ready")
    tab.page.get_by_role("link", name="Compare the models").click()
    scores = tab.page.locator("table.scores")
    expect(scores.get_by_role("rowheader")).to_have_text(["Linear regression", "Random forest"])
    expect(scores.locator("td.best").first).to_contain_text(re.compile(r"\d"))
    for title in ("Predicted against actual", "Residuals"):
        expect(tab.page.get_by_role("region", name=title).locator("figure svg[role=img]")).to_have_count(2)
    tab.page.get_by_role("region", name="Residuals").get_by_text("Values").first.click()
    expect(tab.page.get_by_role("region", name=re.compile("Values of")).locator("tbody tr").first).to_be_visible()


def test_a_training_shows_its_progress_and_losses_as_they_come(open_tab, alice, trained):
    run = alice.get_training(trained)
    run["status"] = "running"
    curve = {"step": [1, 2], "train": [0.5, 0.25], "validation": [0.6, None]}
    run["models"][0] |= {"status": "training", "progress": 0.4, "remaining_s": 90, "curve": curve, "metrics": {}}
    tab = open_tab()
    answer = {"success": True, "data": run}
    tab.page.route(re.compile(f"/train/{trained}$"), lambda route: route.fulfill(json=answer))
    tab.go_to_session(trained, "training")
    model = tab.page.locator("[data-model]").first

    expect(model.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "40")
    expect(model).to_contain_text("left")
    drawn = model.get_by_role("img", name=re.compile("^Loss of "))
    expect(drawn.locator("path.curve")).to_have_count(2)
    # Between two steps there is none.
    expect(drawn.locator("text[text-anchor=middle]").filter(has_text=re.compile(r"^\d"))).to_have_text(["1", "2"])
    curve["step"].append(3)
    curve["train"].append(0.2)
    curve["validation"].append(None)
    expect(drawn.locator("text[text-anchor=middle]").filter(has_text=re.compile("^3$"))).to_be_visible()


def test_a_training_says_how_far_all_of_it_is_and_what_each_model_does(open_tab, alice, trained):
    run = alice.get_training(trained)
    run["status"] = "running"
    run["models"][0] |= {"status": "training", "progress": 0.4, "detail": "tree 40 of 100", "metrics": {}}
    run["models"][1] |= {"progress": 0.9, "detail": "Stopped early."}
    tab = open_tab()
    answer = {"success": True, "data": run}
    tab.page.route(re.compile(f"/train/{trained}$"), lambda route: route.fulfill(json=answer))
    tab.go_to_session(trained, "training")
    models = tab.page.locator("[data-model]")

    # One is done, the other four tenths.
    whole = tab.page.get_by_role("progressbar", name="Training of all models")
    expect(whole).to_have_attribute("aria-valuenow", "70")
    expect(models.nth(0)).to_contain_text("tree 40 of 100")
    expect(models.nth(1)).to_contain_text("Stopped early.")
    run["models"][0] |= {"status": "failed", "detail": "Out of memory."}
    expect(models.nth(0)).to_contain_text("Out of memory.")
    run |= {"status": "completed", "detail": "One model failed."}
    tab.see("One model failed.")
    expect(whole).to_have_count(0)


def test_a_training_that_nobody_works_on_says_so(open_tab, alice, trained):
    run = alice.get_training(trained) | {"status": "running"}
    tab = open_tab()
    answer = {"success": True, "data": run}
    tab.page.route(re.compile(f"/train/{trained}$"), lambda route: route.fulfill(json=answer))
    tab.go_to_session(trained, "training")
    expect(tab.button("Cancel the training")).to_be_visible()
    said = tab.page.get_by_text("Nobody has worked on this for ten minutes.")
    expect(said).to_have_count(0)

    run["stalled"] = True

    expect(said).to_be_visible()


def test_variables_are_shown_as_pictures_and_numbers(open_tab, trained):
    tab = open_tab()
    tab.go_to_session(trained, "variables")
    cards = tab.page.locator("article.variable")

    expect(cards).to_have_count(4)
    expect(cards.filter(has_text="area").locator("svg[role=img]")).to_have_count(2)
    expect(cards.filter(has_text="area")).to_contain_text("None missing")
    expect(cards.filter(has_text="side").locator("li").first).to_have_text("north333")
    tab.page.get_by_role("searchbox").fill("room")
    expect(cards).to_have_count(1)


def test_variables_of_many_columns_and_files_come_a_part_at_a_time(open_tab, session_of_alice, alice, tmp_path):
    wide, other = tmp_path / "a-wide.csv", tmp_path / "b-other.csv"
    names = [f"column_{n:02d}" for n in range(50)]
    # In five of twenty rows, the first column has no value.
    rows = [",".join("" if n == 0 and row < 5 else str(row * 50 + n) for n in range(50)) for row in range(20)]
    wide.write_text("\n".join([",".join(names), *rows, ""]))
    other.write_text("x,y\n" + "1,2\n" * 7)
    session_id = session_of_alice()
    for path in (wide, other):
        upload_file(alice, session_id, path, content_type="text/csv")
    tab = open_tab()
    tab.go_to_session(session_id, "variables")
    cards = tab.page.locator("article.variable")

    expect(cards).to_have_count(24)
    tab.see("50 columns, 20 rows")
    expect(cards.nth(0)).to_contain_text("5 missing (25 %)")
    expect(cards.nth(1)).to_contain_text("None missing")
    tab.click("Show 24 more columns")
    expect(cards).to_have_count(48)
    tab.click("Show 2 more columns")
    expect(cards.get_by_role("heading")).to_have_text(names)
    expect(tab.button(re.compile("^Show "))).to_have_count(0)
    tab.page.get_by_role("combobox", name="File").select_option("b-other.csv")
    expect(cards.get_by_role("heading")).to_have_text(["x", "y"])
    tab.see("2 columns, 7 rows")


def test_a_model_is_downloaded_in_each_format_with_its_mark(open_tab, trained):
    tab = open_tab()
    tab.go_to_session(trained, "models")
    model = tab.page.locator("[data-model=linear_regression]").first
    pickle = model.get_by_role("button", name=re.compile("as Pickle.*Runs code when opened"))
    expect(pickle).to_contain_text("runs code when opened")
    skops = model.get_by_role("button", name=re.compile("as skops"))
    expect(skops).not_to_contain_text("runs code")
    onnx = model.get_by_role("button", name=re.compile("as ONNX"))
    expect(onnx).not_to_contain_text("runs code")

    # A zip; a protocol buffer whose first field is the version of its form; a pickle of protocol 2 or newer.
    for button, ending, beginning in ((skops, ".skops", b"PK"), (onnx, ".onnx", b"\x08"), (pickle, ".pkl", b"\x80")):
        with tab.page.expect_download() as download:
            button.click()
        assert download.value.suggested_filename.endswith(ending)
        assert download.value.path().read_bytes().startswith(beginning)
    expect(tab.heading("Houses")).to_be_visible()


def test_everything_is_downloaded_as_one_zip(open_tab, trained):
    tab = open_tab()
    tab.go_to_session(trained, "models")

    with tab.page.expect_download() as download:
        tab.click("Everything as a zip")

    with zipfile.ZipFile(download.value.path()) as archive:
        assert any(name.endswith("check.py") for name in archive.namelist())


def test_a_table_and_a_picture_are_saved(open_tab, trained):
    tab = open_tab()
    tab.go_to_session(trained, "results")

    with tab.page.expect_download() as table:
        tab.click("CSV")
    with tab.page.expect_download() as picture:
        tab.button(re.compile("^Save .* as PNG")).first.click()

    assert table.value.path().read_text().startswith("model,split,metric,value")
    assert picture.value.path().read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_training_is_cancelled(open_tab, new_data_set):
    tab = open_tab()
    tab.go_to_session(new_data_set(), "training")
    choose_models(tab, "dense_network")
    tab.click("Train 1 model")

    tab.click("Cancel the training")

    expect(tab.page.locator("[data-model=dense_network]")).to_have_attribute("data-status", "cancelled")
    expect(tab.button("Train again")).to_be_visible()


def test_a_neural_network_is_downloaded_as_keras_and_as_hdf5(open_tab, alice, new_data_set):
    session_id = new_data_set()
    alice.train(session_id, target="price", models=["dense_network"])
    tab = open_tab()
    tab.go_to_session(session_id, "models")
    model = tab.page.locator("[data-model=dense_network]")
    buttons = model.get_by_role("button")
    expect(buttons).to_have_text([re.compile("^Keras "), re.compile("^HDF5 ")])

    contents = []
    for button, ending in zip(buttons.all(), (".keras", ".h5"), strict=True):
        expect(button).not_to_contain_text("runs code")
        with tab.page.expect_download() as download:
            button.click()
        assert download.value.suggested_filename.endswith(ending)
        contents.append(download.value.path().read_bytes())

    with zipfile.ZipFile(io.BytesIO(contents[0])) as archive:
        assert {"config.json", "model.weights.h5"} <= set(archive.namelist())
    assert contents[1].startswith(b"\x89HDF\r\n\x1a\n")


@pytest.mark.parametrize("button", ["as skops", "Everything as a zip"])
def test_a_download_that_fails_is_said(open_tab, trained, button):
    tab = open_tab(strict=False)
    tab.go_to_session(trained, "models")
    broken = {"code": "internal_error", "detail": "Something is wrong.", "status": 500, "retryable": False}
    pattern = re.compile("/(download-model-h5|download-archive)/")
    tab.page.route(pattern, lambda route: route.fulfill(status=500, json=broken))

    tab.button(re.compile(button)).first.click()

    expect(tab.page.get_by_role("alert")).to_contain_text("Something is wrong.")
    expect(tab.button(re.compile(button)).first).to_be_enabled()


def test_nothing_is_trained_before_a_column_and_a_model_are_chosen(open_tab, new_data_set):
    tab = open_tab()
    tab.go_to_session(new_data_set(), "training")
    start = tab.button(re.compile("^Train \\d models?$"))

    expect(start).to_be_disabled()
    tab.see("Choose the column to predict.")
    # Text is told apart into classes.
    tab.page.get_by_label("Column to predict").select_option("side")
    expect(tab.page.get_by_role("radio", name=re.compile("^Classification"))).to_be_checked()
    expect(start).to_be_enabled()
    for box in tab.page.get_by_role("checkbox").all():
        box.uncheck()
    expect(start).to_be_disabled()
    tab.see("Choose a model.")


def test_one_row_is_too_few_to_train_on_and_that_is_said(open_tab, session_of_alice, alice, tmp_path):
    table = tmp_path / "one.csv"
    table.write_text("a,b\n1,2\n")
    session_id = session_of_alice()
    upload_file(alice, session_id, table, content_type="text/csv")
    alice.finalize_session(session_id)
    tab = open_tab(strict=False)
    tab.go_to_session(session_id, "training")
    tab.page.get_by_label("Column to predict").select_option("b")

    tab.click(re.compile("^Train \\d models$"))

    expect(tab.page.get_by_role("alert")).to_contain_text("row")
    expect(tab.button(re.compile("^Train \\d models$"))).to_be_enabled()


def test_the_best_is_the_least_error_and_the_greatest_score_of_what_was_held_out(open_tab, trained, alice):
    def values(split, **metrics):
        return [
            {"model": model, "split": split, "metric": metric, "value": value}
            for metric, pair in metrics.items()
            for model, value in zip(("a_model", "b_model"), pair, strict=True)
        ]

    (table,) = alice.evaluation_tables(trained)
    # As a trainer of somebody's own may order them.
    rows = values("train", rmse=(9, 8), r2=(0.1, 0.2)) + values("test", rmse=(1, 2), r2=(0.7, 0.6), unheard_of=(3, 4))
    tab = open_tab()
    answer = {"success": True, "data": {"evaluation_tables": [table | {"rows": rows}]}}
    tab.page.route(re.compile("/evaluation-tables/"), lambda route: route.fulfill(json=answer))
    tab.go_to_session(trained, "results")
    scores = tab.page.locator("table.scores")

    expect(scores.locator("th[scope=colgroup]")).to_have_text(["Test, held out", "Train"])
    # Whether less or more is better is not known of every measure.
    expect(scores.locator("td.best")).to_have_text(["1 (best)", "0.7000 (best)"])
    expect(scores.locator("tbody tr").nth(1).locator("td")).to_have_text(
        ["2", "0.6000", "4", "8", "0.2000", "\N{EN DASH}"]
    )


def test_charts_that_are_compared_have_the_same_axes(open_tab, trained, alice):
    charts = alice.visualizations(trained)
    kinds = ("predicted_vs_actual", "residuals")
    compared = [chart for chart in charts if chart["name"].endswith(kinds)]
    assert len(compared) == 4
    # One model errs ten times as far as the other.
    for chart in compared:
        if chart["model"] == "random_forest":
            for field in {chart["x"].get("to"), chart["x"]["field"], chart["y"]["field"]} - {None}:
                chart["data"][field] = [10 * value for value in chart["data"][field]]
    tab = open_tab()
    answer = {"success": True, "data": {"visualizations": compared}}
    tab.page.route(re.compile("/visualizations/"), lambda route: route.fulfill(json=answer))
    tab.go_to_session(trained, "results")

    for n, title in enumerate(("Predicted against actual", "Residuals")):
        region = tab.page.get_by_role("region", name=title)
        expect(region.locator("figure svg[role=img]")).to_have_count(2)
        # Of bars, only what they stand on.
        text = "text" if title == "Predicted against actual" else "text[text-anchor=middle]"
        marks = [figure.locator(text).all_text_contents() for figure in region.locator("figure svg[role=img]").all()]
        assert marks[0] == marks[1], title
        # Those of the model that errs most, not of the first.
        greatest = max(
            max(chart["data"][chart["x"]["field"]]) for chart in compared if chart["name"].endswith(kinds[n])
        )
        numbers = [float(mark.replace(",", "").replace("\u2212", "-")) for mark in marks[0] if re.search(r"\d$", mark)]
        assert max(numbers) > greatest / 2, title
    drawn = tab.page.get_by_role("region", name="Predicted against actual").locator("line.identity")
    expect(drawn).to_have_count(2)


def test_what_is_chosen_is_given_up_by_its_button(open_tab, trained):
    tab = open_tab()
    tab.go_to_session(trained, "training")
    tab.click("Train again")
    expect(tab.heading("Train models")).to_be_visible()

    tab.click("Cancel")

    expect(tab.heading("Regression of price")).to_be_visible()

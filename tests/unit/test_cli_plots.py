"""Charts and columns as text."""

import pytest

from trainshed.plots import bars, draw_chart, draw_column, sparkline


def chart(kind, data, **encodings):
    named = {name: {"field": field} for name, field in encodings.items() if isinstance(field, str)}
    return {"name": "m.c", "kind": kind, "data": data, **encodings, **named}


def test_a_sparkline_has_one_character_per_bin_and_gaps_where_nothing_is():
    assert sparkline([0, 1, 4, 8]) == " ▂▅█"
    assert sparkline([]) == sparkline([0, 0]) == ""


def test_bars_are_as_long_as_their_values():
    lines = bars(["a", "bb"], [1, 2], 40).split("\n")
    assert lines[0].endswith(" 1")
    assert lines[0].count("█") * 2 == pytest.approx(lines[1].count("█"), abs=2)
    assert max(map(len, lines)) <= 40


def test_bars_bear_what_is_missing_negative_and_nothing_at_all():
    assert "no value" in bars(["a"], [None], 40)
    assert "-3" in bars(["a", "b"], [-3, 1], 40)
    assert bars([], [], 40) == ""


@pytest.mark.parametrize("kind", ["line", "scatter", "residual"])
def test_points_are_drawn_with_titles_and_gaps_left_out(kind):
    drawn = draw_chart(chart(kind, {"a": [1, 2, 3], "b": [1.0, None, 3.0]}, x="a", y="b"), 60)
    assert "(b)" in drawn
    assert "(a)" in drawn
    assert any("⠁" <= character <= "⣿" for character in drawn)
    assert max(map(len, drawn.split("\n"))) <= 65


def test_each_series_gets_a_plot_of_its_own():
    data = {"x": [1, 2, 1, 2], "y": [1, 2, 3, 4], "part": ["train", "train", "test", "test"]}
    drawn = draw_chart(chart("line", data, x="x", y="y", series="part"), 60)
    assert drawn.startswith("train\n")
    assert "\n\ntest\n" in drawn


@pytest.mark.parametrize("values", [["2024-01-01", "2024-01-02"], ["north", "south"]])
def test_dates_and_words_have_places(values):
    assert "(y)" in draw_chart(chart("line", {"x": values, "y": [1, 2]}, x="x", y="y"), 60)


def test_a_histogram_is_bars_over_ranges():
    data = {"from": [0.0, 1.0], "to": [1.0, 2.5], "n": [3, 5]}
    drawn = draw_chart(chart("histogram", data, x={"field": "from", "to": "to"}, y="n"), 60)
    assert drawn.split("\n")[1].startswith("1 to 2.5 ")


def test_bars_of_series_are_told_apart():
    data = {"x": ["a", "a"], "y": [1, 2], "s": ["p", "q"]}
    drawn = draw_chart(chart("bar", data, x="x", y="y", series="s"), 60)
    assert [line[:3] for line in drawn.split("\n")] == ["a p", "a q"]


def test_a_confusion_matrix_is_a_table():
    data = {"p": ["yes", "no", "yes", "no"], "a": ["yes", "yes", "no", "no"], "n": [7, 1, 2, 9]}
    lines = draw_chart(chart("confusion", data, x="p", y="a", color="n"), 60).split("\n")
    assert [line.split() for line in lines[2:]] == [["yes", "7", "1"], ["no", "2", "9"]]


def test_a_heatmap_too_wide_says_what_does_not_fit():
    names = [f"column-{number}" for number in range(30)]
    data = {"x": names, "y": ["r"] * 30, "n": list(range(30))}
    assert "more columns do not fit" in draw_chart(chart("heatmap", data, x="x", y="y", color="n"), 60)


@pytest.mark.parametrize("kind", ["line", "scatter"])
def test_a_chart_without_values_says_so(kind):
    assert draw_chart(chart(kind, {"a": [None], "b": [None]}, x="a", y="b"), 60) == "no data"


def test_a_picture_cannot_be_shown_and_says_how_to_get_it():
    assert "--to FILE.png" in draw_chart({"name": "p", "kind": "picture"}, 60)


def test_a_column_of_numbers_is_its_histogram_and_series():
    column = {
        "name": "x",
        "type": "number",
        "histogram": {"from": [0.0], "to": [1.0], "count": [2]},
        "series": {"x": [0, 1], "y": [0.5, None]},
    }
    drawn = draw_column(column, 60)
    assert "0 to 1" in drawn
    assert "(row)" in drawn


def test_a_column_of_texts_is_its_commonest_values_and_an_empty_one_says_so():
    assert draw_column({"name": "t", "commonest": [{"value": "a", "count": 2}]}, 60).startswith("a ")
    assert "no values" in draw_column({"name": "t", "commonest": []}, 60)


def test_numbers_that_have_no_finite_difference_are_said_to_be_too_large():
    assert "beyond 1e+300" in draw_chart(chart("line", {"x": [1, 2], "y": [1e308, -1e308]}, x="x", y="y"), 60)


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0], [1e-300, 2e-300]])
def test_any_numbers_can_be_drawn(values):
    rows = list(range(len(values)))
    assert "(y)" in draw_chart(chart("line", {"x": rows, "y": values}, x="x", y="y"), 60)

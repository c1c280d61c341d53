"""Charts: what is valid, what is made of it, and that every kind can be drawn whatever its texts are."""

import json
import re
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.adapters.vega_charts import VegaCharts
from shared.chart_templates import THEMES, vega_lite
from shared.charts import KINDS, MOST_ROWS, PICTURE, ChartError, read_chart
from shared.errors import ChartInvalidError

NUMBERS = {"x": [1, 2, 3], "x2": [2, 3, 4], "y": [5.5, None, 7], "series": ["a", "b", "a"], "color": [1, 2, 3]}
DRAWN = [kind for kind in KINDS if kind != PICTURE]
HOSTILE = [
    'a.b[0]["x"]',
    "</script><script>alert(1)</script>",
    "datum['y']",
    "\\",
    "🚂 Zug",
    "",
    "'",
    "signal: 1",
    "\n",
]


def a_chart(kind: str, data: dict | None = None, *, fields: dict | None = None, **members) -> dict:
    """Return a chart of a kind; `fields` renames its columns."""
    fields = {name: name for name in NUMBERS} | (fields or {})
    data = NUMBERS if data is None else data
    chart = {"name": f"model.{kind}", "kind": kind, "title": kind}
    chart |= {channel: {"field": fields[channel]} for channel in KINDS[kind]}
    if kind == "histogram":
        chart["x"]["to"] = fields["x2"]
    return chart | {"data": {fields[name]: values for name, values in data.items()}} | members


def drawn(chart: dict, **options) -> str:
    return VegaCharts().svg(vega_lite(read_chart(chart), **options)).decode()


def size_of(png: bytes) -> tuple[int, ...]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("kind", DRAWN)
def test_every_kind_is_drawn_in_the_size_asked_for(kind, theme):
    spec = vega_lite(read_chart(a_chart(kind)), width=500, theme=theme)
    assert size_of(VegaCharts().png(spec, 2)) == (1000, spec["height"] * 2)
    assert drawn(a_chart(kind), theme=theme).startswith("<svg")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("kind", DRAWN)
def test_hostile_texts_are_shown_and_are_neither_markup_nor_instructions(kind, text):
    fields = {"x": text, "y": f"{text}!"}
    data = NUMBERS | {"series": [text, f"{text}2", text]}
    chart = a_chart(kind, data, fields=fields, title=text)
    chart["x"] |= {"title": text, "unit": text or "m"}
    spec = vega_lite(read_chart(chart))
    fields = re.findall(r'"field": "([^"]*)"', json.dumps(spec))
    assert set(fields) <= {"x", "x2", "y", "series", "color", "zero"}
    svg = VegaCharts().svg(spec).decode()
    assert "<script" not in svg


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_any_name_of_a_column_draws_the_same_picture(field):
    def draw(x: str, y: str) -> str:
        data = {"x": [1, 2], "y": [3, 4]}
        chart = a_chart("scatter", data, fields={"x": x, "y": y}, series=None)
        chart["x"]["title"], chart["y"]["title"] = "x", "y"
        return drawn(chart)

    assert draw(field, f"{field}'") == draw("x", "y")


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("values", [[], [None], [None, None], [float("nan")]])
def test_a_chart_without_values_says_so(kind, values):
    assert "no data" in drawn(a_chart(kind, dict.fromkeys(NUMBERS, values)))


@pytest.mark.parametrize("kind", DRAWN)
def test_a_single_row_is_visible(kind):
    svg = drawn(a_chart(kind, {name: values[:1] for name, values in NUMBERS.items()}))
    assert "no data" not in svg
    assert re.search(r'aria-roledescription="(point|bar|line mark|rect mark|symbol mark)', svg)


def test_a_value_between_two_gaps_is_a_dot_and_a_gap_breaks_the_line():
    ys = [1.0] * 60 + [None, 5.0, None] + [1.0] * 60
    chart = {"name": "c", "kind": "line", "x": {"field": "x"}, "y": {"field": "y"}}
    chart["data"] = {"x": list(range(len(ys))), "y": ys}
    rows = vega_lite(read_chart(chart))["data"]["values"]
    assert [row["x"] for row in rows if row["dot"]] == [61]
    (path,) = re.findall(r'aria-roledescription="line mark"[^>]* d="([^"]+)"', drawn(chart))
    assert path.count("M") == 3


@pytest.mark.parametrize("kind", ["scatter", "line", "residual", "bar", "histogram"])
def test_as_many_rows_as_allowed_are_drawn(kind):
    data = {"x": list(range(MOST_ROWS)), "x2": list(range(1, MOST_ROWS + 1)), "y": list(range(MOST_ROWS))}
    data |= {"series": ["a", "b"] * (MOST_ROWS // 2), "color": data["y"]}
    assert len(drawn(a_chart(kind, data))) > 10_000


def bars(names: list[str]) -> dict:
    data = {"x": names, "y": list(range(len(names)))}
    return {"name": "c", "kind": "bar", "x": {"field": "x"}, "y": {"field": "y"}, "data": data}


def test_of_more_names_than_have_room_some_at_even_distances_are_labels():
    """Vega looks at each pair of labels: 10,000 took it 13 s, of the 60 that its function has."""
    names = [f"name {n}" for n in range(MOST_ROWS)]
    spec = vega_lite(read_chart(bars(names)))
    labels = spec["encoding"]["y"]["axis"]["values"]
    assert spec["height"] / 24 < len(labels) <= spec["height"] / 12
    assert labels == names[:: names.index(labels[1])]


def test_names_that_have_room_are_all_labels():
    names = [f"name {n}" for n in range(60)]
    svg = drawn(bars(names))
    assert [name for name in names if f">{name}<" not in svg] == []


def test_drawing_5000_points_takes_less_memory_than_its_function_has():
    """In a process of its own, whose highest use counts. The function has 1 GiB (functions/manifest.yaml).

    Not by ru_maxrss: that begins with what the parent had, and a whole run of pytest has more than this.
    """
    program = """
from pathlib import Path
from shared.adapters.vega_charts import VegaCharts
from shared.chart_templates import vega_lite
from shared.charts import read_chart
points = [(at * 7919) % 5003 for at in range(5000)]
chart = {"name": "c", "kind": "scatter", "x": {"field": "x"}, "y": {"field": "y"}}
chart["data"] = {"x": points, "y": points[::-1]}
for _ in range(3):
    VegaCharts().png(vega_lite(read_chart(chart)), 2)
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400 << 10


def test_dates_are_read_in_utc_and_others_in_their_zone():
    dates = ["2024-01-01", "2024-01-01T00:00:00", "2024-01-01T02:00:00+02:00", None]
    chart = a_chart("line", {"x": dates, "y": [1, 2, 3, 4], "series": ["a"] * 4})
    chart["x"]["type"] = "date"
    assert list(read_chart(chart).columns["x"].values) == [1704067200000.0] * 3 + [None]


def test_units_stand_beside_titles():
    chart = a_chart("scatter")
    chart["y"] |= {"title": "power", "unit": "kW"}
    assert "power [kW]" in drawn(chart)


def test_an_instruction_in_a_chart_is_no_part_of_what_is_drawn():
    chart = a_chart("scatter", mark={"type": "image", "url": "http://localhost/x"}, transform=[{"calculate": "1"}])
    chart["x"] |= {"axis": {"labelExpr": "1"}, "scale": {"domain": {"expr": "1"}}}
    assert vega_lite(read_chart(chart)) == vega_lite(read_chart(a_chart("scatter")))


def test_nothing_is_fetched_by_the_engine():
    with pytest.raises(ChartInvalidError):
        VegaCharts().svg({"data": {"url": "http://localhost:9/a.csv"}, "mark": "point"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "pie"}, "kind"),
        ({"kind": ["line"]}, "kind"),
        ({"name": None}, "name"),
        ({"title": 5}, "title"),
        ({"title": "x" * 1001}, "title"),
        ({"title": "a\0"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"x": None}, "x of"),
        ({"x": {"field": "nothing"}}, "x of"),
        ({"x": {"field": ["x"]}}, "x of"),
        ({"x": {"field": "series"}}, "x of"),
        ({"y": {"field": "y", "type": "text"}}, "y of"),
        ({"y": {"field": "y", "unit": 5}}, "unit"),
        ({"data": None}, "data"),
        ({"data": {"x": 5}}, "column 'x'"),
        ({"data": NUMBERS | {"x": [1]}}, "equally long"),
        ({"data": dict.fromkeys(NUMBERS, [1] * (MOST_ROWS + 1))}, "rows"),
        ({"data": {str(at): [] for at in range(51)}}, "50 columns"),
        ({"data": NUMBERS | {"y": [1, "2", 3]}}, "y of"),
        ({"data": NUMBERS | {"y": [True, 2, 3]}}, "y of"),
        ({"data": NUMBERS | {"y": [10**400, 2, 3]}}, "1.8e308"),
        ({"data": NUMBERS | {"series": [{"a": 1}, 2, 3]}}, "series"),
    ],
)
def test_what_is_no_chart_is_refused_with_the_place(change, says):
    with pytest.raises(ChartError, match=re.escape(says)):
        read_chart(a_chart("scatter") | change)


@pytest.mark.parametrize("document", [None, [], "chart", 5])
def test_what_is_no_object_is_no_chart(document):
    with pytest.raises(ChartError):
        read_chart(document)


@pytest.mark.parametrize(
    "change", [{"media_type": "image/svg+xml"}, {"width": 0}, {"height": True}, {"width": 10**6}, {"object": None}]
)
def test_a_picture_is_a_png_of_a_sensible_size(change):
    picture = {"name": "p", "kind": "picture", "object": "a.png", "media_type": "image/png", "width": 3, "height": 4}
    assert read_chart(picture).columns == {}
    with pytest.raises(ChartError):
        read_chart(picture | change)

from pathlib import Path

import pytest

from operations import cost

PRICES = {
    "storage": {"class_a_per_1000": 5.0, "class_b_per_1000": 1.0, "gib_month": 0.5},
    "run": {"requests_per_1000": 2.0, "vcpu_second": 0.01, "gib_second": 0.02},
    "logging": {"gib": 1.0},
    "scheduler": {"job_month": 0.1},
    "secrets": {"version_month": 0.2},
    "build": {"gib_month": 0.3},
    "front_door": {"hour": 0.1},
}
WORK = {
    "requests": 3,
    "storage_class_a": 100,
    "storage_class_b": 10,
    "assumed": {"instance_seconds": 4, "memory_gib": 0.5, "log_kib": 0},
}
IDLE = {"assumed": {"images_gib": 2, "secret_versions": 1, "scheduler_jobs": 1}}
COUNTS = {"upload_of_1_gib": WORK, "idle_hour": WORK, "idle_month": IDLE}


def test_operations_requests_and_time_are_counted_apart():
    costs = cost.uploads_cost(PRICES, COUNTS, 1000)

    assert costs["storage operations"] == pytest.approx(100 * 5.0 + 10 * 1.0)
    assert costs["functions' requests"] == pytest.approx(3 * 2.0)
    assert costs["functions' time (assumed)"] == pytest.approx(4000 * (0.01 + 0.5 * 0.02))


def test_twice_the_uploads_cost_twice_as_much():
    once, twice = (sum(cost.uploads_cost(PRICES, COUNTS, times).values()) for times in (500, 1000))

    assert twice == pytest.approx(2 * once)


def test_an_idle_month_costs_more_with_data_and_a_front_door():
    bare = cost.idle_month_cost(PRICES, COUNTS)
    full = cost.idle_month_cost(PRICES, COUNTS, stored_gib=10, has_front_door=True)

    assert sum(full.values()) - sum(bare.values()) == pytest.approx(10 * 0.5 + 730 * 0.1)


def test_the_table_leaves_out_what_costs_nothing_and_ends_with_the_total():
    text = cost.table("Title", {"one": 1.25, "none": 0.0, "two": 2.0})

    assert [line.split() for line in text.splitlines()] == [
        ["Title"],
        ["one", "1.25", "USD"],
        ["two", "2.00", "USD"],
        ["total", "3.25", "USD"],
    ]


def test_the_prices_of_the_repository_have_what_the_computation_needs(capsys):
    cost.main(["--stored-gib", "100", "--front-door"])

    printed = capsys.readouterr().out
    assert printed.count("total") == 2
    for name in ("prices.yaml", "operation_counts.yaml"):
        assert cost.load(name)


def test_every_price_says_where_it_is_from():
    for kind, entry in cost.load("prices.yaml").items():
        assert entry["source"].startswith("https://"), kind


def test_the_page_on_operations_shows_what_is_printed(capsys):
    cost.main([])

    assert capsys.readouterr().out in (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()

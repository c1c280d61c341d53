import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.compose import MAX_SOURCES, Step, plan_compose


def plan(n_chunks: int, **options: int) -> list[list[Step]]:
    return plan_compose(
        [f"chunks/{index:05d}" for index in range(n_chunks)], destination="data", steps_prefix="steps/", **options
    )


def joined(levels: list[list[Step]]) -> list[str]:
    """Return the chunks in the order in which the plan puts them into the destination."""
    contents: dict[str, list[str]] = {}
    for level in levels:
        # The steps of a level may run at the same time: none may read what another one of them writes.
        contents |= {
            step.destination: [chunk for source in step.sources for chunk in contents.get(source, [source])]
            for step in level
        }
    return contents["data"]


@pytest.mark.parametrize(
    ("n_chunks", "calls_per_level"),
    [
        (1, [1]),
        (2, [1]),
        (31, [1]),
        (32, [1]),
        (33, [2, 1]),
        (64, [2, 1]),
        (65, [3, 1]),
        (1023, [32, 1]),
        (1024, [32, 1]),
        (1025, [33, 2, 1]),
    ],
)
def test_the_number_of_calls_per_level_follows_the_number_of_chunks(n_chunks, calls_per_level):
    assert [len(level) for level in plan(n_chunks)] == calls_per_level


@given(n_chunks=st.integers(1, 5000))
def test_every_chunk_stands_in_the_destination_once_and_in_order(n_chunks):
    assert joined(plan(n_chunks)) == [f"chunks/{index:05d}" for index in range(n_chunks)]


@given(n_chunks=st.integers(1, 5000))
def test_no_step_takes_more_than_32_sources_and_every_name_is_written_once(n_chunks):
    steps = [step for level in plan(n_chunks) for step in level]

    assert all(1 <= len(step.sources) <= MAX_SOURCES for step in steps)
    assert len({step.destination for step in steps}) == len(steps)


def test_only_the_last_step_writes_the_destination():
    *lower, last = plan(1025)

    assert [step.destination for step in last] == ["data"]
    assert all(step.destination.startswith("steps/") for level in lower for step in level)


@given(n_chunks=st.integers(1, 200), fan_in=st.integers(2, 9))
def test_another_fan_in_gives_the_same_order(n_chunks, fan_in):
    assert joined(plan(n_chunks, fan_in=fan_in)) == [f"chunks/{index:05d}" for index in range(n_chunks)]


def test_the_same_chunks_give_the_same_plan():
    assert plan(1025) == plan(1025)


def test_nothing_cannot_be_composed():
    with pytest.raises(ValueError, match="nothing to compose"):
        plan(0)

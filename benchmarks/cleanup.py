"""Sweeping 10,000 abandoned uploads with 100,000 chunks in bounded runs: `python -m benchmarks.cleanup`.

Rows in the running stack's database; objects in a bucket in memory, because the storage emulator walks through the
whole bucket for every listing. A tenth of it is a test: tests/scale/test_cleanup.py.
"""

from benchmarks.measuring import Figure, running_stack, seconds, show
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.sweeping import SWEPT_PER_RUN, SweepService
from tests.fakes.objects import InMemoryObjectStore
from tests.local_stack import People
from tests.scale.stale_uploads import OwnUploads, make_stale

N_UPLOADS = 10_000
N_CHUNKS = 10
TIME_LIMIT_S = 540  # of the function, functions/manifest.yaml


def main() -> None:
    """Make the uploads, sweep until there are no more, and count."""
    stack = running_stack()
    with People(stack) as people:
        owner, store = people.add(), InMemoryObjectStore()
        make_stale(stack, owner, store, n_uploads=N_UPLOADS, n_chunks=N_CHUNKS)
        service = SweepService(OwnUploads(SupabaseUploads(stack.database), owner), store)
        sweeps, runs_s = [], []
        while not sweeps or sweeps[-1].has_more:
            runs_s.append(seconds(lambda: sweeps.append(service.sweep())))
        stack.rows("delete from public.sessions where user_id = %s", owner.user_id)
    n_uploads, n_objects = (sum(getattr(sweep, name) for sweep in sweeps) for name in ("n_uploads", "n_objects"))
    is_all = (n_uploads, n_objects, store.list("")) == (N_UPLOADS, N_UPLOADS * N_CHUNKS, [])
    show(
        "Cleanup",
        [
            Figure(
                f"sweeping {N_UPLOADS:,} uploads with {N_UPLOADS * N_CHUNKS:,} chunks",
                f"{sum(runs_s):.1f} s in {len(sweeps)} runs of up to {SWEPT_PER_RUN}; {n_objects:,} objects deleted",
                "",
                f"longest run {max(runs_s):.1f} s",
                f"all, and {TIME_LIMIT_S} s a run",
                is_all and max(runs_s) <= TIME_LIMIT_S,
            )
        ],
    )


if __name__ == "__main__":
    main()

"""Uploads against what they are made of: `python -m benchmarks.uploads [row...]`, with the stack running.

Rows: end-to-end, compose, signing, counting, plan. All of them without an argument.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from benchmarks.measuring import (
    GIB,
    MIB,
    Figure,
    ServerProcess,
    median_of_pairs,
    running_stack,
    seconds,
    show,
    table_file,
)
from dev.home import REPOSITORY
from shared.adapters.csv_rows import CsvRowCounter
from shared.adapters.gcs import GcsObjectStore
from shared.adapters.signing import GcsUrlSigner
from shared.adapters.supabase_sessions import SupabaseSessions
from shared.adapters.supabase_uploads import SupabaseUploads
from shared.assembly import PARALLEL_CALLS
from shared.chunks import LEAST_CHUNK_BYTES
from shared.compose import plan_compose
from shared.records.callers import Caller
from shared.records.objects import StoredObject, chunk_name
from shared.settings import StorageSettings, storage_settings
from shared.tables import detect_format, plain_pieces, read_ahead
from shared.uploads import CLIENT_CONCURRENCY, SIGNED_PER_CALL
from tests.fakes.iam import signing_through
from tests.large_plan import ROW
from tests.local_stack import LocalStack, People
from tests.upload_rules import UploadRules
from trainshed.client import Client
from trainshed.upload import upload_file

END_TO_END_BYTES = 512 * MIB
COUNTED_BYTES = GIB
N_PAIRS = 3
N_CHUNKS = 1024
TINY_CHUNK_BYTES = 16
SIGN_LATENCY_S = 0.05
N_SIGNED = 1024
_IAM = """
import sys, threading
from tests.fakes.iam import IamServer
server = IamServer(latency_s=float(sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
"""


class Bench:
    """A user of the running stack, and the functions' own adapters in this process."""

    def __init__(self, stack: LocalStack, user: Caller) -> None:
        self.stack = stack
        self.user = user
        self.settings = storage_settings(stack.functions_env)
        self.store = GcsObjectStore(self.settings.uploads_bucket)
        self.signer = GcsUrlSigner(self.settings, self.settings.uploads_bucket)
        self.client = Client(stack.env["TRAINSHED_URL"], user.token)
        self.api = ServerProcess(stack, "api")

    def session(self) -> str:
        name = f"bench-{uuid.uuid4()}"
        self.client.init_session(name, {})
        return name

    def delete(self, session_id: str) -> None:
        self.client.delete_session(session_id)

    def service(self, store: Any, **options: Any) -> UploadRules:
        database = self.stack.database
        return UploadRules(
            SupabaseUploads(database), SupabaseSessions(database), store, self.signer, CsvRowCounter(), **options
        )

    def compose_bare(self, chunks: Sequence[StoredObject], prefix: str) -> None:
        """Issue the compose calls that assembling issues, and nothing else."""
        objects = {chunk.name: chunk for chunk in chunks}
        with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
            for level in plan_compose(list(objects), destination=prefix + "whole", steps_prefix=prefix + "steps/"):
                composed = pool.map(
                    lambda step: self.store.compose(
                        [objects[name] for name in step.sources], step.destination, "application/octet-stream"
                    ),
                    level,
                )
                objects.update({stored.name: stored for stored in composed})

    def delete_below(self, prefix: str) -> None:
        self.store.delete(self.store.list(prefix))


def end_to_end(bench: Bench, folder: Path) -> list[Figure]:
    """512 MiB from create to assembled by the client; against the same chunks and composes, bare."""
    path = folder / "data.bin"
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(END_TO_END_BYTES // MIB):
            file.write(block)
    cpu_s = []

    def whole() -> float:
        session_id = bench.session()
        before = bench.api.cpu_s()
        taken = seconds(lambda: upload_file(bench.client, session_id, path))
        cpu_s.append((bench.api.cpu_s() - before) * GIB / END_TO_END_BYTES)
        bench.delete(session_id)
        return taken

    def bare() -> float:
        prefix = f"chunks/{uuid.uuid4()}/"
        taken = put_all(bench, path, prefix)
        taken += seconds(lambda: bench.compose_bare(bench.store.list(prefix), prefix))
        bench.delete_below(prefix)
        return taken

    whole_s, bare_s, ratio = median_of_pairs(N_PAIRS, whole, bare)
    used = sorted(cpu_s)[len(cpu_s) // 2]
    rate = END_TO_END_BYTES / MIB
    return [
        Figure(
            "512 MiB end to end, create to assembled",
            f"{whole_s:.2f} s = {rate / whole_s:.0f} MiB/s",
            f"parallel PUT of the same chunks, same composes: {bare_s:.2f} s = {rate / bare_s:.0f} MiB/s",
            f"{1 / ratio:.2f} of the throughput",
            "0.85",
            1 / ratio >= 0.85,
        ),
        Figure(
            "CPU in functions per GiB uploaded, nothing counted",
            f"{used:.2f} s",
            "",
            f"{used:.2f} s",
            "0.3 s or less",
            used <= 0.3,
        ),
    ]


def put_all(bench: Bench, path: Path, prefix: str) -> float:
    """PUT a file's chunks, as many at once as the client does; return how long that took, without the signing [s]."""
    n_chunks = -(-path.stat().st_size // LEAST_CHUNK_BYTES)
    urls = [bench.signer.sign("PUT", f"{prefix}{index:05d}").url for index in range(n_chunks)]

    def put(bucket: httpx.Client, index: int) -> None:
        with path.open("rb") as file:
            file.seek(index * LEAST_CHUNK_BYTES)
            bucket.put(urls[index], content=file.read(LEAST_CHUNK_BYTES)).raise_for_status()

    def put_each() -> None:
        with httpx.Client(timeout=120) as bucket, ThreadPoolExecutor(CLIENT_CONCURRENCY) as pool:
            list(pool.map(lambda index: put(bucket, index), range(n_chunks)))

    return seconds(put_each)


class TimedStore:
    """A bucket that notes when compose calls begin and end."""

    def __init__(self, store: GcsObjectStore) -> None:
        self._store = store
        self.calls: list[tuple[float, float]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def compose(self, *arguments: Any) -> StoredObject:
        begun = time.perf_counter()
        stored = self._store.compose(*arguments)
        self.calls.append((begun, time.perf_counter()))
        return stored


def compose(bench: Bench, _: Path) -> list[Figure]:
    """Assembling 1,024 tiny chunks; against the same compose calls, bare."""
    n_calls, assembled_s = [], []

    def whole() -> float:
        session_id, store = bench.session(), TimedStore(bench.store)
        service = bench.service(store, least_chunk_bytes=TINY_CHUNK_BYTES)
        upload, _, _ = service.create(
            bench.user.user_id,
            {"sessionId": session_id, "fileName": "tiny.bin", "size": N_CHUNKS * TINY_CHUNK_BYTES},
        )
        write_chunks(bench, [chunk_name(upload.id, index) for index in range(N_CHUNKS)])
        assembled_s.append(seconds(lambda: service.assemble(bench.user.user_id, upload.id)))
        n_calls.append(len(store.calls))
        bench.delete(session_id)
        return max(end for _, end in store.calls) - min(begun for begun, _ in store.calls)

    def bare() -> float:
        prefix = f"chunks/{uuid.uuid4()}/"
        write_chunks(bench, [f"{prefix}{index:05d}" for index in range(N_CHUNKS)])
        chunks = bench.store.list(prefix)
        taken = seconds(lambda: bench.compose_bare(chunks, prefix))
        bench.delete_below(prefix)
        return taken

    whole_s, bare_s, ratio = median_of_pairs(N_PAIRS, whole, bare)
    calls = max(n_calls)
    everything = sorted(assembled_s)[len(assembled_s) // 2]
    return [
        Figure("compose calls for 1,024 chunks", str(calls), "", str(calls), "33", calls == 33),
        Figure(
            "wall of composing 1,024 chunks",
            f"{whole_s:.2f} s (assemble with listing and deleting: {everything:.2f} s)",
            f"the same calls issued bare in parallel: {bare_s:.2f} s",
            f"{ratio:.2f} times",
            "1.3 or less",
            ratio <= 1.3,
        ),
    ]


def write_chunks(bench: Bench, names: Sequence[str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        content = b"0" * TINY_CHUNK_BYTES
        list(pool.map(lambda name: bench.store.write(name, content, "application/octet-stream"), names))


def signing(bench: Bench, _: Path) -> list[Figure]:
    """1,024 chunks signed in calls of 128 through a signBlob that takes 50 ms."""
    session_id = bench.session()
    size = N_SIGNED * TINY_CHUNK_BYTES
    service = bench.service(bench.store, least_chunk_bytes=TINY_CHUNK_BYTES)
    upload, _, _ = service.create(bench.user.user_id, {"sessionId": session_id, "fileName": "a.bin", "size": size})
    local = bench.settings
    settings = StorageSettings(
        local.uploads_bucket,
        local.artifacts_bucket,
        local.public_url,
        "",
        "signer@example.iam.gserviceaccount.com",
        3600,
    )
    # In a process of its own: here it would share the interpreter's lock with what is measured.
    server = subprocess.Popen([sys.executable, "-c", _IAM, str(SIGN_LATENCY_S)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        with signing_through(int(server.stdout.readline())):

            def all_signed() -> tuple[float, float]:
                bench.signer = GcsUrlSigner(settings, local.uploads_bucket)
                fresh = bench.service(bench.store)
                cpu_s = time.process_time()
                taken = seconds(lambda: sign_in_calls(fresh, bench.user, upload.id))
                return taken, time.process_time() - cpu_s

            taken, cpu_s = sorted(all_signed() for _ in range(N_PAIRS))[N_PAIRS // 2]
    finally:
        server.terminate()
        server.wait()
        bench.signer = GcsUrlSigner(local, local.uploads_bucket)
    bench.delete(session_id)
    return [
        Figure(
            "1,024 signed URLs through signBlob at 50 ms",
            f"{taken:.2f} s, of which {cpu_s:.2f} s are CPU",
            f"one after the other: over {N_SIGNED * SIGN_LATENCY_S:.0f} s",
            f"{taken:.2f} s",
            "4 s or less",
            taken <= 4,
        )
    ]


def sign_in_calls(service: UploadRules, user: Caller, upload_id: str) -> None:
    for first in range(0, N_SIGNED, SIGNED_PER_CALL):
        service.sign_chunks(user, upload_id, [{"index": index} for index in range(first, first + SIGNED_PER_CALL)])


def counting(bench: Bench, folder: Path) -> list[Figure]:
    """1 GiB with quoted line ends: counted as it streams from the bucket; the memory of the functions meanwhile."""
    session_id = bench.session()
    with table_file(folder, COUNTED_BYTES) as (path, n_rows):
        size = path.stat().st_size
        bench.api.forget_peak()
        # The whole way, in the functions' own process.
        uploaded = upload_file(bench.client, session_id, path, content_type="text/csv")
        peak = bench.api.peak_bytes()
    row = bench.stack.rows("select object_name from public.uploads where id = %s", uploaded["uploadId"])[0]
    name = row["object_name"]
    host = urlsplit(bench.stack.functions_env["STORAGE_EMULATOR_HOST"]).netloc
    address = f"/download/storage/v1/b/{bench.settings.uploads_bucket}/o/{quote(name, safe='')}?alt=media"
    counts = []

    def counted() -> float:
        begun = time.perf_counter()
        counts.append(count(read_ahead(bench.store.read(name))))
        return time.perf_counter() - begun

    def bare() -> float:
        return seconds(lambda: read_bare(host, address))

    counted_s, bare_s, ratio = median_of_pairs(N_PAIRS, counted, bare)
    bench.delete(session_id)
    right = {*counts, uploaded["nRows"]} == {n_rows}
    rate = size / 1e9
    return [
        Figure(
            "rows of a 1 GiB CSV streamed from the bucket",
            f"{counted_s:.2f} s = {rate / counted_s:.2f} GB/s; {counts[0]:,} rows, {'right' if right else 'WRONG'}",
            f"reading the same bytes: {bare_s:.2f} s = {rate / bare_s:.2f} GB/s",
            f"{1 / ratio:.2f} of the bare read",
            "0.7",
            1 / ratio >= 0.7 and right,
        ),
        Figure(
            "peak memory of the functions' process while assembling and counting 1 GiB",
            f"{peak / MIB:.0f} MiB",
            "all functions in one process; each has its own when deployed",
            f"{peak / MIB:.0f} MiB",
            "300 MiB or less",
            peak <= 300 * MIB,
        ),
    ]


def read_bare(host: str, address: str) -> None:
    """Read an answer into one buffer, as fast as Python's own HTTP client does."""
    buffer = bytearray(MIB)
    connection = http.client.HTTPConnection(host)
    connection.request("GET", address)
    answer = connection.getresponse()
    while answer.readinto(buffer):
        pass
    connection.close()


def count(pieces: Iterator[bytes]) -> int:
    """Count as assembling does."""
    head = next(pieces)
    table_format = detect_format("data.csv", "text/csv", head)

    def all_pieces() -> Iterator[bytes]:
        yield head
        yield from pieces

    return CsvRowCounter().count(plain_pieces(all_pieces(), table_format), table_format.delimiter)


def plan(_: Bench, __: Path) -> list[Figure]:
    """A file of 10 GiB through every function's rules, its objects simulated; the memory that takes."""
    command = [sys.executable, "-m", "tests.large_plan", "--count"]
    said = json.loads(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)
    peaks = {name: peak / MIB for name, peak in said["peaks"].items()}
    counting_mib = peaks.pop("assemble")
    most = max(peaks.values())
    return [
        Figure(
            "peak memory for a file of 10 GiB in 1,024 simulated chunks: create, sign, get",
            ", ".join(f"{name} {peak:.0f} MiB" for name, peak in peaks.items()),
            "a process that has loaded the same clients, and nothing else",
            f"{most:.0f} MiB",
            "256 MiB or less",
            most <= 256,
        ),
        Figure(
            "the same while assembling it, every byte hashed and every row counted",
            f"{counting_mib:.0f} MiB; {said['rows']:,} rows",
            "",
            f"{counting_mib:.0f} MiB",
            "300 MiB or less",
            counting_mib <= 300 and said["rows"] == said["size"] // len(ROW) - 1,
        ),
    ]


ROWS: dict[str, Callable[[Bench, Path], list[Figure]]] = {
    "end-to-end": end_to_end,
    "compose": compose,
    "signing": signing,
    "counting": counting,
    "plan": plan,
}


def main() -> None:
    """Measure the rows named as arguments, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", nargs="*", choices=[*ROWS, []])
    wanted = parser.parse_args().row or list(ROWS)
    stack = running_stack()
    with People(stack) as people, tempfile.TemporaryDirectory(prefix="trainshed-bench-") as folder:
        bench = Bench(stack, people.add())
        for name in wanted:
            show(f"Uploads: {name}", ROWS[name](bench, Path(folder)))


if __name__ == "__main__":
    main()

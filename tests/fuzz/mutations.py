"""Changes real and hostile pickles at random, and reads them: only a description or a refusal may come of it.

`python -m tests.fuzz.mutations [HOW MANY [SEED]]`; 100,000 by default, which is half a minute.
"""

import json
import pickletools
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from shared.pickles import PickleRefusedError, read_pickle
from tests.hostile_pickles import hostile_pickles
from tests.pickled_models import ALL_PROTOCOLS, fitted_objects, written

# [s] One pickle of a few KB takes milliseconds; the limit leaves room for a loaded machine.
MOST_SECONDS = 5.0
# [bytes] of memory beyond what the process has when it begins, through all cases (test_pickles_memory.py).
MOST_BYTES = 320 * 1024 * 1024
_SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_OPCODES = bytes(opcode.code.encode("latin-1")[0] for opcode in pickletools.opcodes)


def seeds() -> list[bytes]:
    """Give the pickles that are changed: every kind of real object in every protocol, and the hostile ones."""
    real = [written(value, protocol) for value in fitted_objects().values() for protocol in ALL_PROTOCOLS]
    # Larger ones only take longer: what can break is in the smaller ones too.
    return [data for data in real + list(hostile_pickles().values()) if len(data) <= 20_000]


def mutations(originals: list[bytes], how_many: int, seed: int) -> Iterator[bytes]:
    """Change one to four places of a pickle: flip, insert, remove, repeat, splice, or claim another size."""
    chance = random.Random(seed)
    for _ in range(how_many):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data) + 1)
            length = chance.randint(1, 16)
            kind = chance.randrange(7)
            if kind == 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            elif kind == 1:
                data[place : place + 1] = bytes([chance.choice(_OPCODES)])
            elif kind == 2:
                data[place:place] = bytes(chance.choices(_OPCODES, k=length))
            elif kind == 3:
                del data[place : place + length]
            elif kind == 4:
                data[place:place] = data[place : place + length] * chance.choice((1, 2, 50))
            elif kind == 5:
                other = chance.choice(originals)
                start = chance.randrange(len(other) + 1)
                data[place : place + length] = other[start : start + 8 * length]
            else:
                n_bytes = chance.choice((1, 2, 4, 8))
                size = chance.choice(_SIZES) & (2 ** (8 * n_bytes) - 1)
                data[place : place + n_bytes] = size.to_bytes(n_bytes, "little")
        yield bytes(data)


def read_one(data: bytes) -> str:
    """Read a pickle and say what came of it: described, or the code of its refusal.

    Raises:
        AssertionError: It took too long.
    """
    began = time.perf_counter()
    try:
        description = read_pickle(data, claimed_class="Sequential")
        json.dumps([description.parameters, description.fitted], allow_nan=False)
        outcome = "described"
        for archive in description.keras_archives:
            archive.content()
    except PickleRefusedError as refused:
        outcome = refused.code
    took = time.perf_counter() - began
    assert took < MOST_SECONDS, f"{took:.1f} s for {data[:200]!r}"
    return outcome


def peak_bytes() -> int:
    """Return the most memory this process has had [bytes]. Not ru_maxrss: that begins with what the parent had."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024


def main(how_many: int = 100_000, seed: int = 1) -> None:
    """Read so many changed pickles, and say what came of them."""
    originals = seeds()
    events: Counter[str] = Counter()
    at_start = peak_bytes()
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    began = time.perf_counter()
    is_reading = False

    def watch(event: str, _arguments: object) -> None:
        # The reader calls id() itself, to visit each object once.
        if is_reading and event != "builtins.id":
            events[event] += 1

    sys.addaudithook(watch)
    modules = set(sys.modules)
    for data in mutations(originals, how_many, seed):
        before = time.perf_counter()
        is_reading = True
        outcomes[read_one(data)] += 1
        is_reading = False
        slowest = max(slowest, time.perf_counter() - before)
    grown = peak_bytes() - at_start
    report = {
        "mutations": how_many,
        "seed": seed,
        "of_pickles": len(originals),
        "seconds": round(time.perf_counter() - began, 1),
        "slowest_ms": round(1000 * slowest, 1),
        "memory_grown_mib": round(grown / 2**20, 1),
        "audit_events": dict(events),
        "modules_imported": sorted(set(sys.modules) - modules),
        "outcomes": dict(outcomes.most_common()),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    if events or report["modules_imported"] or grown > MOST_BYTES:
        sys.exit("A pickle did something, or took too much memory.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

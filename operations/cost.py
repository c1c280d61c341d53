"""Says what a deployment costs: `make cost`.

Operations are counted on a real upload (operations/operation_counts.yaml), prices are data (operations/prices.yaml),
and what can only be measured on Google Cloud is marked as assumed. Supabase's plan comes on top.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
UPLOADS = 1000
HOURS_PER_MONTH = 730
_KIB_PER_GIB = 1 << 20
_PER_THOUSAND = 1000

Costs = dict[str, float]


def work(prices: Mapping[str, Any], counts: Mapping[str, Any], times: int = 1) -> Costs:
    """Return what it costs to do something a number of times, by kind of cost [US dollars]."""
    storage, run = prices["storage"], prices["run"]
    assumed = counts["assumed"]
    seconds = assumed["instance_seconds"] * times
    return {
        "storage operations": times
        * (
            counts["storage_class_a"] * storage["class_a_per_1000"]
            + counts["storage_class_b"] * storage["class_b_per_1000"]
        )
        / _PER_THOUSAND,
        "functions' requests": times * counts["requests"] * run["requests_per_1000"] / _PER_THOUSAND,
        "functions' time (assumed)": seconds * (run["vcpu_second"] + assumed["memory_gib"] * run["gib_second"]),
        "logs (assumed)": times * assumed["log_kib"] / _KIB_PER_GIB * prices["logging"]["gib"],
    }


def uploads_cost(prices: Mapping[str, Any], counts: Mapping[str, Any], uploads: int = UPLOADS) -> Costs:
    """Return what it costs to take in uploads of 1 GiB, without keeping them [US dollars]."""
    return work(prices, counts["upload_of_1_gib"], uploads)


def idle_month_cost(
    prices: Mapping[str, Any], counts: Mapping[str, Any], *, stored_gib: float = 0, has_front_door: bool = False
) -> Costs:
    """Return what a month costs in which nobody calls [US dollars].

    Args:
        stored_gib: Data sets and models that are kept [GiB].
        has_front_door: Whether there is a load balancer, which costs by the hour.
    """
    assumed = counts["idle_month"]["assumed"]
    costs = work(prices, counts["idle_hour"], HOURS_PER_MONTH)
    costs["scheduler"] = assumed["scheduler_jobs"] * prices["scheduler"]["job_month"]
    costs["secrets"] = assumed["secret_versions"] * prices["secrets"]["version_month"]
    costs["images (assumed)"] = assumed["images_gib"] * prices["build"]["gib_month"]
    costs["stored data"] = stored_gib * prices["storage"]["gib_month"]
    costs["front door"] = HOURS_PER_MONTH * prices["front_door"]["hour"] if has_front_door else 0.0
    return costs


def table(title: str, costs: Costs) -> str:
    """Return costs as lines of text, the total last."""
    rows = [*((name, amount) for name, amount in costs.items() if amount), ("total", sum(costs.values()))]
    return "\n".join([title, *(f"  {name:<28}{amount:>10.2f} USD" for name, amount in rows)]) + "\n"


def load(name: str) -> Mapping[str, Any]:
    """Return one of the data files beside this one."""
    content: Mapping[str, Any] = yaml.safe_load((HERE / name).read_text())
    return content


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="cost", description="Say what a deployment costs.")
    parser.add_argument("--stored-gib", type=float, default=0, help="data sets and models that are kept")
    parser.add_argument("--front-door", action="store_true", help="with the load balancer")
    options = parser.parse_args(arguments)
    prices, counts = load("prices.yaml"), load("operation_counts.yaml")
    month = idle_month_cost(prices, counts, stored_gib=options.stored_gib, has_front_door=options.front_door)
    sys.stdout.write(table(f"{UPLOADS:,} uploads of 1 GiB, taken in and assembled", uploads_cost(prices, counts)))
    sys.stdout.write(table("A month in which nobody calls", month))


if __name__ == "__main__":
    main()

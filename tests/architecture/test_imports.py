"""What importing costs, by what it loads. Milliseconds differ between machines; sets of modules do not."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Each costs a cold start between 30 ms and several seconds; they are loaded by the first request that needs them.
HEAVY = (
    "cryptography",
    "google",
    "grpc",
    "h5py",
    "httpx",
    "jwt",
    "keras",
    "numpy",
    "opentelemetry",
    "pandas",
    "postgrest",
    "pyarrow",
    "requests",
    "scipy",
    "sklearn",
    "skops",
    "supabase",
    "tensorflow",
    "tsdownsample",
    "urllib3",
    "wasmtime",
    "yaml",
)
WEB = ("flask", "werkzeug")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SHARED = sorted(name_of(path) for path in (ROOT / "shared").rglob("*.py"))
MAINS = sorted(name_of(path) for path in (ROOT / "functions").glob("*/main.py"))


def loaded_by(module: str) -> set[str]:
    """Return the packages that importing a module loads into a fresh interpreter."""
    # What is there before comes from .pth files of the environment.
    program = (
        f"import sys; before = set(sys.modules); import {module};"
        " print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["google.auth", "numpy", "jwt"])
def test_what_is_heavy_is_seen(module):
    assert module.partition(".")[0] in loaded_by(module)


@pytest.mark.parametrize("module", SHARED)
def test_importing_a_shared_module_loads_nothing_heavy(module):
    forbidden = HEAVY if module == "shared.web.endpoint" else HEAVY + WEB

    assert not loaded_by(module) & set(forbidden)


@pytest.mark.parametrize("module", MAINS)
def test_importing_a_function_loads_the_web_framework_and_nothing_heavy(module):
    loaded = loaded_by(module)

    assert not loaded & set(HEAVY)
    assert "flask" in loaded


@pytest.mark.parametrize("package", ["shared", "functions"])
def test_packages_are_empty(package):
    """So that importing one module of a package loads that module alone."""
    for path in (ROOT / package).rglob("__init__.py"):
        assert path.read_bytes() == b"", path

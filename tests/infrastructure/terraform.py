"""infra/terraform as a tree, and the Google provider's arguments as Pulumi's package of it lists them."""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

from dev.home import REPOSITORY

TERRAFORM = REPOSITORY / "infra/terraform"
FILES = sorted(TERRAFORM.glob("*.tf"))
# Arguments of Terraform itself, which every resource may have.
META = {"count", "depends_on", "for_each", "lifecycle", "provider"}


def unquoted(value: Any) -> Any:
    """Return a literal without the quotes that the parser keeps, and everything else as it is."""
    return value[1:-1] if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"' else value


@dataclass(frozen=True)
class Block:
    """A labelled block: kind is resource, data, variable, output or provider."""

    kind: str
    labels: tuple[str, ...]
    body: Mapping[str, Any]

    @property
    def address(self) -> str:
        return ".".join(self.labels)

    def text(self, name: str) -> str:
        """Return an argument as it is written, without the quotes of a literal."""
        return str(unquoted(self.body.get(name, "")))


@functools.cache
def blocks() -> tuple[Block, ...]:
    """Return the labelled blocks of all files."""
    found = []
    for file in FILES:
        with file.open() as text:
            tree = hcl2.load(text)
        for kind, entries in tree.items():
            if kind not in {"__comments__", "__inline_comments__"}:
                found += [block for entry in entries for block in _blocks(kind, entry)]
    return tuple(found)


def _blocks(kind: str, entry: Mapping[str, Any], labels: tuple[str, ...] = ()) -> Iterator[Block]:
    if entry.get("__is_block__"):
        yield Block(kind, labels, entry)
        # A check has a data source of its own.
        if kind == "check":
            for inner in entry.get("data", ()):
                yield from _blocks("data", inner)
        return
    for label, inner in entry.items():
        yield from _blocks(kind, inner, (*labels, unquoted(label)))


def resources(kind: str) -> list[Block]:
    """Return the resources of one type."""
    return [block for block in blocks() if block.kind == "resource" and block.labels[0] == kind]


def resource(kind: str, name: str) -> Block:
    """Return one resource."""
    (found,) = [block for block in resources(kind) if block.labels[1] == name]
    return found


def arguments(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a body's arguments and blocks; the content of a dynamic block counts as the block that it makes."""
    for name, value in body.items():
        if name in {"__is_block__", "__comments__", "__inline_comments__"}:
            continue
        if name == "dynamic":
            for dynamic in value:
                for label, inner in dynamic.items():
                    if label != "__comments__":
                        yield unquoted(label), inner["content"]
        else:
            yield name, value


@dataclass(frozen=True)
class Schema:
    """What a resource or block may have: for each argument the class of its block, or None where it is a value."""

    members: Mapping[str, str | None]
    required: frozenset[str]


@functools.cache
def provider() -> Path:
    """Return Pulumi's package of the Google provider, which is read and never imported."""
    found = sorted((REPOSITORY / ".venv-infra").glob("lib/python3*/site-packages/pulumi_gcp"))
    assert found, "The tools that check the infrastructure are missing: `make check` installs them."
    return found[0]


@functools.cache
def _modules() -> Mapping[str, str]:
    """Return where each resource's class lies: module and file by class name, lower case."""
    text = (provider() / "__init__.py").read_text()
    # "gcp:cloudfunctionsv2/function:Function": "Function"
    return {
        f"{module}{kind}".lower(): f"{module}/{kind}" for module, kind in re.findall(r'"gcp:(\w+)/\w+:(\w+)":', text)
    }


# Terraform's names against Pulumi's, where the words themselves differ.
_PLACES = {
    "google_project": "organizations/get_project",
    "google_cloudfunctions2_function": "cloudfunctionsv2/Function",
    "google_cloud_run_v2_service": "cloudrunv2/get_service",
    "google_cloud_run_v2_service_iam_member": "cloudrunv2/ServiceIamMember",
    "google_project_iam_custom_role": "projects/IAMCustomRole",
    "google_project_iam_member": "projects/IAMMember",
    "google_project_service": "projects/Service",
    "google_service_account": "serviceaccount/Account",
    "google_service_account_iam_member": "serviceaccount/IAMMember",
    "google_artifact_registry_repository": "artifactregistry/Repository",
    "google_artifact_registry_repository_iam_member": "artifactregistry/RepositoryIamMember",
    "google_compute_url_map": "compute/URLMap",
    "google_compute_ssl_policy": "compute/SSLPolicy",
    "google_compute_managed_ssl_certificate": "compute/ManagedSslCertificate",
    "google_compute_target_https_proxy": "compute/TargetHttpsProxy",
    "google_storage_bucket_iam_member": "storage/BucketIAMMember",
}


def _place(kind: str) -> str:
    if kind in _PLACES:
        return _PLACES[kind]
    words = kind.removeprefix("google_").replace("_", "")
    assert words in _modules(), f"the provider has no {kind}"
    return _modules()[words]


def _file_of(name: str) -> str:
    """Return the file of a class: URLMap is in url_map.py, BucketIAMMember in bucket_iam_member.py."""
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words).lower()


@functools.cache
def _classes(file: Path) -> Mapping[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)}


@functools.cache
def schema_of(kind: str) -> Schema:
    """Return what a resource of Terraform's type `kind` may have, or a data source with a `get_` file."""
    module, name = _place(kind).split("/")
    if name.startswith("get_"):
        tree = ast.parse((provider() / module / f"{name}.py").read_text())
        (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
        names = {argument.arg for argument in function.args.args} - {"opts"}
        return Schema(dict.fromkeys(names), frozenset())
    return _schema(_classes(provider() / module / f"{_file_of(name)}.py")[f"{name}Args"])


@functools.cache
def block_schema(kind: str, name: str) -> Schema:
    """Return what a nested block may have whose class is `name`."""
    module = _place(kind).split("/", maxsplit=1)[0]
    return _schema(_classes(provider() / module / "_inputs.py")[name])


def _schema(node: ast.ClassDef) -> Schema:
    (init,) = [member for member in node.body if isinstance(member, ast.FunctionDef) and member.name == "__init__"]
    members, required = {}, set()
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        assert argument.annotation is not None
        found = re.search(r"'(\w+Args)'", ast.unparse(argument.annotation))
        members[argument.arg] = found[1] if found else None
        if default is None:
            required.add(argument.arg)
    return Schema(members, frozenset(required))


def member_of(schema: Schema, name: str) -> str | None:
    """Return the provider package's name of an argument: the package puts repeated blocks into the plural."""
    plurals = (name, f"{name}s", f"{name}es", f"{name[:-1]}ies")
    return next((candidate for candidate in plurals if candidate in schema.members), None)

"""Every argument of infra/terraform is one that the Google provider has, at any depth, and none it needs is missing."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.infrastructure.terraform import META, Block, Schema, arguments, block_schema, blocks, member_of, schema_of

RESOURCES = [block for block in blocks() if block.kind in {"resource", "data"}]


def faults(kind: str, body: Mapping[str, Any], schema: Schema, where: str) -> Iterator[str]:
    """Yield what the provider would refuse."""
    given = set()
    for name, value in arguments(body):
        member = member_of(schema, name)
        if member is None:
            yield f"{where} has no argument {name}"
            continue
        given.add(member)
        inner = schema.members[member]
        for block in value if isinstance(value, list) else [value]:
            if isinstance(block, Mapping) and block.get("__is_block__"):
                if inner is None:
                    yield f"{where}.{name} is a value, not a block"
                else:
                    yield from faults(kind, block, block_schema(kind, inner), f"{where}.{name}")
    for name in sorted(schema.required - given):
        yield f"{where} lacks {name}"


def faults_of(block: Block) -> list[str]:
    kind = block.labels[0]
    body = {name: value for name, value in block.body.items() if name not in META}
    return list(faults(kind, body, schema_of(kind), block.address))


@pytest.mark.parametrize("block", RESOURCES, ids=lambda block: block.address)
def test_the_provider_knows_every_argument(block):
    assert faults_of(block) == []


def test_arguments_that_the_provider_does_not_know_are_found_at_any_depth():
    body = {
        "location": "x",
        "colour": "red",
        "service_config": [{"__is_block__": True, "memory": "1Gi", "secret_volumes": [{"__is_block__": True}]}],
    }
    assert faults_of(Block("resource", ("google_cloudfunctions2_function", "one"), body)) == [
        "google_cloudfunctions2_function.one has no argument colour",
        "google_cloudfunctions2_function.one.service_config has no argument memory",
        "google_cloudfunctions2_function.one.service_config.secret_volumes lacks mount_path",
        "google_cloudfunctions2_function.one.service_config.secret_volumes lacks project_id",
        "google_cloudfunctions2_function.one.service_config.secret_volumes lacks secret",
    ]


def test_an_argument_that_the_provider_needs_is_missed():
    (fault,) = faults_of(Block("resource", ("google_secret_manager_secret_version", "one"), {}))

    assert fault == "google_secret_manager_secret_version.one lacks secret"

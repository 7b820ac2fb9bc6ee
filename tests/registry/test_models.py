import pytest

from artifact.making import fill, manifest
from registry.adding import add
from servable.artifact.manifest import Variant
from servable.errors import ConflictError, InputError, ModelNotFound, VersionNotFound
from servable.registry.home import Home, republish
from servable.registry.references import Reference
from servable.testing import FakeClock


def test_versions_count_from_one_for_each_model(opened: Home, clock: FakeClock) -> None:
    first = add(opened, "churn", b"1", note="the first")
    clock.advance(60)
    second = add(opened, "churn", b"2")
    other = add(opened, "fraud", b"3")
    assert (first.version, second.version, other.version) == (1, 2, 1)
    assert first.created_at == "2026-01-31T12:00:00Z"
    assert second.created_at == "2026-01-31T12:01:00Z"
    assert first.note == "the first"
    assert first.metrics == {"r2": 0.75}
    assert first.task == "regression"
    assert opened.models.versions("churn") == (first, second)
    records = opened.models.all()
    assert [(record.name, record.versions, record.latest) for record in records] == [
        ("churn", 2, 2),
        ("fraud", 1, 1),
    ]
    assert opened.models.get("churn") == records[0]


def test_references_resolve(opened: Home) -> None:
    first, second = add(opened, content=b"1"), add(opened, content=b"2")
    alias = opened.models.set_alias("churn", "champion", 1)
    assert opened.models.resolve("churn") == second
    assert opened.models.resolve("churn@latest") == second
    assert opened.models.resolve("churn:1") == first == opened.models.resolve("churn@champion")
    assert opened.models.resolve(Reference("churn", 2)) == second
    assert opened.models.get("churn").aliases == {"champion": 1}
    assert opened.models.aliases("churn") == (alias,)
    opened.models.set_alias("churn", "champion", 2)
    assert opened.models.resolve("churn@champion") == second
    opened.models.remove_alias("churn", "champion")
    assert opened.models.aliases("churn") == ()


def test_what_is_not_there_is_said_with_what_is(opened: Home) -> None:
    with pytest.raises(ModelNotFound, match="no models yet"):
        opened.models.resolve("churn")
    add(opened)
    with pytest.raises(ModelNotFound, match="known models: churn"):
        opened.models.resolve("chrun")
    with pytest.raises(ModelNotFound):
        opened.models.get("chrun")
    with pytest.raises(ModelNotFound):
        opened.models.versions("chrun")
    with pytest.raises(VersionNotFound, match="newest is 1"):
        opened.models.resolve("churn:2")
    with pytest.raises(VersionNotFound, match="no aliases yet"):
        opened.models.resolve("churn@champion")
    opened.models.set_alias("churn", "best", 1)
    with pytest.raises(VersionNotFound, match="known aliases: best"):
        opened.models.resolve("churn@champion")
    with pytest.raises(VersionNotFound):
        opened.models.set_alias("churn", "champion", 9)
    with pytest.raises(VersionNotFound, match="nothing was removed"):
        opened.models.remove_alias("churn", "champion")
    with pytest.raises(InputError):
        opened.models.set_alias("churn", "latest", 1)
    with pytest.raises(InputError):
        opened.models.resolve("../churn")
    for number in range(12):
        add(opened, f"m{number}")
    with pytest.raises(ModelNotFound, match="and 3 more"):
        opened.models.resolve("chrun")


def test_a_version_gets_a_new_package(opened: Home, clock: FakeClock) -> None:
    first = add(opened)
    fast = Variant(name="onnx-fp32", format="onnx", path="variants/fast.onnx")
    clock.advance(60)
    with opened.packages.staging() as folder:
        fill(folder)
        head = manifest(variants=(*manifest().variants, fast), serving="onnx-fp32")
        second = republish(opened, folder, head, first, reason="optimised")
    assert (second.version, second.revision, second.serving) == (1, 2, "onnx-fp32")
    assert second.created_at == first.created_at
    assert opened.models.resolve("churn:1") == second
    assert opened.package(second).manifest.serving == "onnx-fp32"
    assert opened.package(first).manifest.serving == "trained"
    history = opened.models.history("churn", 1)
    assert [(row.revision, row.package, row.reason) for row in history] == [
        (1, first.package, "created"),
        (2, second.package, "optimised"),
    ]
    assert opened.models.replace_package("churn", 1, second.package, head) == second
    with opened.packages.staging() as folder:
        fill(folder, b"late")
        with pytest.raises(ConflictError, match="meanwhile"):
            republish(opened, folder, manifest(), first)
    assert len(opened.packages.digests()) == 2


def test_rows_can_be_made_without_a_package(opened: Home) -> None:
    record = opened.models.create_version("0" * 64, manifest(), "regression")
    assert opened.models.resolve("churn") == record
    with pytest.raises(InputError):
        opened.models.create_version("0" * 64, manifest("Churn"), "regression")
    with pytest.raises(VersionNotFound):
        opened.models.history("churn", 2)

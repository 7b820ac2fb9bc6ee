import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifact.making import fill, manifest
from registry.adding import add
from servable.errors import ConflictError, ModelNotFound, SettingInvalid, VersionNotFound
from servable.registry.deployments import REMEMBERED
from servable.registry.home import Home, republish
from servable.registry.records import WHOLE, Share, Traffic
from servable.testing import FakeClock
from thoroughness import examples


def test_deploy_and_go_back(opened: Home, clock: FakeClock) -> None:
    records = [add(opened, content=bytes([number])) for number in range(3)]
    first = opened.deployments.deploy("churn", 1)
    assert (first.version, first.previous, first.default) == (1, (), True)
    assert first.package == records[0].package
    assert first.serving == "trained"
    clock.advance(5)
    opened.deployments.deploy("churn", 2)
    third = opened.deployments.deploy("churn", 3)
    assert third.previous == (1, 2)
    assert third.since == "2026-01-31T12:00:05Z"
    assert third.generation > first.generation
    again = opened.deployments.deploy("churn", 3)
    assert again.previous == (1, 2)
    assert opened.deployments.rollback("churn").version == 2
    back = opened.deployments.rollback("churn")
    assert (back.version, back.previous) == (1, ())
    with pytest.raises(ConflictError, match="nothing to roll back"):
        opened.deployments.rollback("churn")
    assert opened.deployments.all() == (back,)
    assert opened.deployments.get("churn") == back


def shares(**weights: float) -> tuple[Share, ...]:
    return tuple(Share(version=int(name[1:]), weight=weight) for name, weight in weights.items())


def test_requests_are_divided_until_one_version_answers_all(opened: Home) -> None:
    for number in range(3):
        add(opened, content=bytes([number]))
    whole = opened.deployments.deploy("churn", 1)
    assert whole.traffic == WHOLE
    wanted = Traffic(shares=shares(v1=95, v2=5), shadow=3, mirrored=0.5)
    divided = opened.deployments.divide("churn", wanted)
    assert divided.traffic == wanted
    assert divided.traffic.versions == (1, 2, 3)
    assert divided.version == 1
    assert divided.generation > whole.generation
    assert opened.deployments.get("churn") == divided
    # Going back ends the division first: nothing that was deployed before comes to serve by it.
    back = opened.deployments.rollback("churn")
    assert (back.version, back.traffic, back.previous) == (1, WHOLE, ())
    opened.deployments.divide("churn", wanted)
    assert opened.deployments.deploy("churn", 2).traffic == WHOLE


@pytest.mark.parametrize(
    ("traffic", "words"),
    [
        (Traffic(shares=shares(v1=0.0, v2=1.0)), "must be above 0"),
        (Traffic(shares=shares(v1=float("nan"))), "must be above 0"),
        (Traffic(shares=(*shares(v1=1), *shares(v1=2))), "named twice"),
        (Traffic(shares=shares(v1=1, v2=1), shadow=2), "cannot be the shadow"),
        (Traffic(shadow=2, mirrored=0.0), "above 0 and at most 1"),
    ],
)
def test_a_division_that_cannot_be_followed_changes_nothing(
    opened: Home, traffic: Traffic, words: str
) -> None:
    for number in range(2):
        add(opened, content=bytes([number]))
    before = opened.deployments.deploy("churn", 1)
    with pytest.raises(SettingInvalid, match=words):
        opened.deployments.divide("churn", traffic)
    with pytest.raises(VersionNotFound):
        opened.deployments.divide("churn", Traffic(shadow=7))
    assert opened.deployments.get("churn") == before


def test_the_default_is_the_only_one_or_the_marked_one(opened: Home) -> None:
    assert opened.deployments.default() is None
    for name in ("a", "b", "c"):
        add(opened, name)
    only = opened.deployments.deploy("a", 1)
    assert opened.deployments.default() == only
    opened.deployments.deploy("b", 1)
    first = opened.deployments.default()
    assert first is not None
    assert first.model == "a"
    marked = opened.deployments.deploy("b", 1, default=True)
    assert opened.deployments.default() == marked
    assert opened.deployments.deploy("c", 1, default=True).default
    assert [record.model for record in opened.deployments.all() if record.default] == ["c"]
    opened.deployments.set_default("a")
    assert [record.model for record in opened.deployments.all() if record.default] == ["a"]
    assert not opened.deployments.deploy("a", 1, default=False).default
    opened.deployments.set_default("a")
    opened.deployments.set_default(None)
    assert opened.deployments.default() is None


def test_what_cannot_be_deployed(opened: Home) -> None:
    with pytest.raises(ModelNotFound):
        opened.deployments.deploy("churn", 1)
    add(opened)
    with pytest.raises(VersionNotFound):
        opened.deployments.deploy("churn", 2)
    assert opened.deployments.get("churn") is None
    for action in (opened.deployments.rollback, opened.deployments.undeploy, opened.deployments.set_default):
        with pytest.raises(ConflictError, match="servable deploy churn"):
            action("churn")
        with pytest.raises(ModelNotFound):
            action("chrun")
    opened.deployments.deploy("churn", 1)
    assert opened.deployments.undeploy("churn").version == 1
    assert opened.deployments.all() == ()


def test_a_refused_default_keeps_the_one_before(opened: Home) -> None:
    add(opened, "a")
    add(opened, "b")
    opened.deployments.deploy("a", 1, default=True)
    with pytest.raises(ConflictError):
        opened.deployments.set_default("b")
    assert opened.deployments.deploy("b", 1).default is False
    assert opened.deployments.default() == opened.deployments.get("a")


def test_policy_stays_until_it_is_replaced(opened: Home) -> None:
    add(opened, content=b"1")
    add(opened, content=b"2")
    policy = {"weights": {"1": 0.9, "2": 0.1}, "shadow": None}
    assert opened.deployments.deploy("churn", 1, policy=policy).policy == policy
    assert opened.deployments.deploy("churn", 2).policy == policy
    assert opened.deployments.deploy("churn", 2, policy={}).policy == {}


def test_a_new_package_reaches_the_deployment(opened: Home) -> None:
    record = add(opened)
    before = opened.deployments.deploy("churn", 1)
    token = opened.change_token()
    with opened.packages.staging() as folder:
        fill(folder, b"better")
        after = republish(opened, folder, manifest(), record)
    deployment = opened.deployments.get("churn")
    assert deployment is not None
    assert deployment.package == after.package != before.package
    assert opened.change_token() != token


@given(wanted=st.lists(st.integers(1, 4), min_size=1, max_size=30))
@settings(
    max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rolling_back_retraces_every_step(opened: Home, wanted: list[int]) -> None:
    known = opened.models.all()
    for number in range(4 - (known[0].versions if known else 0)):
        add(opened, content=bytes([number]))
    steps: list[int] = []
    for version in wanted:
        opened.deployments.deploy("churn", version)
        if not steps or steps[-1] != version:
            steps.append(version)
    for expected in reversed(steps[:-1][-REMEMBERED:]):
        assert opened.deployments.rollback("churn").version == expected
    with pytest.raises(ConflictError):
        opened.deployments.rollback("churn")
    opened.deployments.undeploy("churn")

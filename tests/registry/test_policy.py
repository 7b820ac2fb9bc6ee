"""A deployment's wishes: changed one by one, bounded, kept as what differs from the defaults."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.adding import add
from servable.errors import SettingInvalid
from servable.registry.home import Home
from servable.registry.policy import Policy, changed, read_policy, stored_policy

WISHES = st.fixed_dictionaries(
    {},
    optional={
        "executor": st.none() | st.sampled_from(["auto", "inline", "thread", "process"]),
        "device": st.none() | st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:12"]),
        "processes": st.none() | st.integers(1, 64),
        "spares": st.none() | st.integers(0, 16),
        "threads": st.none() | st.integers(0, 256),
        "run_limit_s": st.none() | st.floats(0.01, 86_400),
        "max_batch": st.none() | st.integers(0, 1_000_000),
        "cache_bytes": st.none() | st.integers(0, 2**50),
        "cache_age_s": st.none() | st.floats(0.001, 1e6),
        "pinned": st.none() | st.booleans(),
    },
)


@given(first=WISHES, second=WISHES)
def test_what_is_said_stays_until_something_else_is_said(
    first: dict[str, object], second: dict[str, object]
) -> None:
    policy = changed(changed(Policy(), **first), **second)
    said = {
        **{k: v for k, v in first.items() if v is not None},
        **{k: v for k, v in second.items() if v is not None},
    }
    for name in Policy.__struct_fields__:
        assert getattr(policy, name) == said.get(name, getattr(Policy(), name))
    stored = stored_policy(policy)
    assert read_policy(msgspec.json.decode(msgspec.json.encode(stored))) == policy
    assert all(stored[name] != getattr(Policy(), name) for name in stored), "only what differs"


def test_sizes_may_be_words() -> None:
    assert changed(Policy(), cache_bytes="64MiB").cache_bytes == 64 * 1024**2
    assert changed(Policy(), cache_bytes="0").cache_bytes == 0


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_what_runs_in_the_server_cannot_be_shared(executor: str) -> None:
    with pytest.raises(SettingInvalid, match="cannot be shared by several HTTP processes"):
        changed(Policy(), share=True, executor=executor)
    with pytest.raises(SettingInvalid, match="say executor process, or do not share it"):
        changed(changed(Policy(), share=True), executor=executor)
    assert changed(Policy(), share=False, executor=executor).executor == executor


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("executor", "gpu", "executor.*'gpu'.*auto, inline, thread, process"),
        ("device", "gpu", "device.*'gpu'.*cuda:1"),
        ("device", "cuda:", "device.*'cuda:'"),
        ("processes", 0, "number of processes.*1 to 64 processes, not 0"),
        ("processes", 2.5, "number of processes.*'2.5'"),
        ("processes", True, "number of processes"),
        ("threads", -1, "0 to 256"),
        ("run_limit_s", 0, "longest run"),
        ("run_limit_s", float("nan"), "longest run"),
        ("max_batch", 10**9, "largest batch"),
        ("cache_bytes", "many", "such as 64MiB, not 'many'"),
        ("cache_bytes", -1, "size of the cache"),
        ("cache_age_s", 0.0, "age of kept answers"),
        ("cache_age_s", float("inf"), "age of kept answers"),
        ("pinned", "yes", "Pinning"),
        ("share", "yes", "Sharing of a deployment"),
        ("processses", 2, "did you mean processes"),
        ("colour", "red", "known are executor, "),
    ],
)
def test_what_cannot_be_wished_is_said_in_one_sentence(name: str, value: object, words: str) -> None:
    with pytest.raises(SettingInvalid, match=words) as refused:
        changed(Policy(), **{name: value})
    assert "\n" not in refused.value.message
    assert "$" not in refused.value.message


def test_keys_of_a_newer_program_are_passed_over_and_kept() -> None:
    before = {"shadow": "churn:2", "executor": "process"}
    policy = read_policy(before)
    assert policy == Policy(executor="process")
    assert stored_policy(changed(policy, executor="auto", pinned=True), before) == {
        "shadow": "churn:2",
        "pinned": True,
    }


def test_a_damaged_policy_says_how_to_get_rid_of_it() -> None:
    with pytest.raises(SettingInvalid, match="--reset-policy"):
        read_policy({"processes": "two"})


def test_wishes_stay_with_the_model_and_servers_hear_of_them(opened: Home) -> None:
    add(opened, content=b"1")
    add(opened, content=b"2")
    deploy = opened.deployments.deploy
    assert deploy("churn", 1).policy == {}
    first = deploy("churn", 1, wishes={"executor": "process", "cache_bytes": "1MiB"})
    assert first.policy == {"executor": "process", "cache_bytes": 1024**2}
    assert deploy("churn", 2).policy == first.policy
    token, before = opened.change_token(), opened.deployments.get("churn")
    assert before is not None
    after = deploy("churn", 2, wishes={"processes": 2})
    assert after.policy == {"executor": "process", "processes": 2, "cache_bytes": 1024**2}
    assert (after.version, after.previous, after.since) == (2, (1,), before.since)
    assert after.generation > before.generation
    assert opened.change_token() != token
    assert opened.deployments.rollback("churn").policy == after.policy
    assert deploy("churn", 2, policy={}, wishes={"pinned": True}).policy == {"pinned": True}
    assert deploy("churn", 2, policy={}).policy == {}


def test_a_refused_wish_changes_nothing(opened: Home) -> None:
    add(opened, content=b"1")
    add(opened, content=b"2")
    before = opened.deployments.deploy("churn", 1, wishes={"threads": 3})
    with pytest.raises(SettingInvalid):
        opened.deployments.deploy("churn", 2, default=True, wishes={"threads": -3})
    assert opened.deployments.get("churn") == before

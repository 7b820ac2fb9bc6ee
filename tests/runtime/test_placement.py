"""Where a variant runs: decided from its form, its time and the deployment's wishes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SurroundingsError
from servable.registry.policy import Policy
from servable.runtime.placement import INLINE_SECONDS, Placed, place, said

AUTO = Policy()

FORMATS = st.sampled_from(["onnx", "text", "sklearn", "lightgbm", "torch"])
SECONDS = st.none() | st.floats(min_value=0.0, max_value=1e4)
POLICIES = st.builds(
    Policy,
    executor=st.sampled_from(["auto", "inline", "thread", "process"]),
    processes=st.integers(1, 64),
    threads=st.integers(0, 64),
)
FOUND = st.just({}) | st.fixed_dictionaries({"slots": st.integers(1, 64)})


def placed(form: str = "onnx", seconds: float | None = 8e-6, policy: Policy = AUTO, **found: int) -> Placed:
    """Placed on a machine of four cores."""
    return place(format=form, example_seconds=seconds, policy=policy, options=found, cores=4)


@pytest.mark.parametrize(
    ("form", "seconds", "expected"),
    [
        ("onnx", 8e-6, Placed("inline", 1, "one row takes 8 µs and the graph is declarative")),
        (
            "onnx",
            INLINE_SECONDS,
            Placed("inline", 1, "one row takes 500 µs and the graph is declarative"),
        ),
        (
            "onnx",
            6.14e-3,
            Placed("thread", 4, "one row takes 6.1 ms, too long for the event loop; 4 batches at once"),
        ),
        ("onnx", None, Placed("thread", 4, "its time is not known before it is loaded; 4 batches at once")),
        ("text", None, Placed("thread", 1, "a text may be of any length")),
        ("text", 1e-6, Placed("thread", 1, "a text may be of any length")),
        ("sklearn", None, Placed("process", 1, "it runs Python code, which would hold up the server")),
        ("sklearn", 1e-6, Placed("process", 1, "it runs Python code, which would hold up the server")),
    ],
)
def test_without_wishes_the_form_and_the_time_decide(
    form: str, seconds: float | None, expected: Placed
) -> None:
    assert placed(form, seconds) == expected


def test_a_long_model_runs_as_often_at_once_as_the_search_found() -> None:
    assert placed(seconds=0.006, slots=2) == Placed(
        "thread", 2, "one row takes 6.0 ms, too long for the event loop; 2 batches at once"
    )


def test_wishes_win_and_the_reason_says_what_they_cost() -> None:
    inline = placed(seconds=0.25, policy=Policy(executor="inline"))
    assert inline == Placed(
        "inline",
        1,
        "the deployment asks for it, although one row takes 250.0 ms, in which nothing else is answered",
    )
    assert placed("sklearn", policy=Policy(executor="thread")).slots == 1
    assert placed(policy=Policy(executor="inline")).reason == "the deployment asks for it"
    threads = placed("sklearn", policy=Policy(executor="thread", threads=3))
    assert threads == Placed(
        "thread",
        3,
        "the deployment asks for it, although its Python code holds up the server meanwhile; "
        "3 batches at once",
    )
    processes = placed(policy=Policy(executor="process", processes=2))
    assert processes == Placed("process", 2, "the deployment asks for it; 2 processes")


@given(form=FORMATS, seconds=SECONDS, policy=POLICIES, options=FOUND, cores=st.integers(1, 128))
def test_every_placement_keeps_the_rules(
    form: str, seconds: float | None, policy: Policy, options: dict[str, int], cores: int
) -> None:
    found = place(format=form, example_seconds=seconds, policy=policy, options=options, cores=cores)
    before = place(format=form, example_seconds=None, policy=policy, options=options, cores=cores)
    assert found.kind == (policy.executor if policy.executor != "auto" else found.kind)
    assert (found.kind == "process") == (before.kind == "process"), "known before anything is loaded"
    assert found.slots >= 1
    assert found.reason
    assert not found.reason.endswith(".")
    if found.kind == "inline":
        assert found.slots == 1
        assert policy.executor == "inline" or (seconds is not None and seconds <= INLINE_SECONDS)
    if found.kind == "process":
        assert found.slots == policy.processes
    if found.kind == "thread":
        assert found.slots == policy.threads or found.slots <= cores
    if policy.executor == "auto" and form == "text":
        assert found.kind == "thread"
    elif policy.executor == "auto" and form != "onnx":
        assert found.kind == "process"


@pytest.mark.parametrize("hostile", ["2", None, 0, -5, [2], 10**9])
def test_slots_that_are_no_finding_are_bounded(hostile: object) -> None:
    found = place(format="onnx", example_seconds=0.1, policy=AUTO, options={"slots": hostile}, cores=4)
    assert 1 <= found.slots <= 4


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, "0 µs"), (8.4e-6, "8 µs"), (0.0061, "6.1 ms"), (2.25, "2.2 s")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert said(seconds) == words


@pytest.mark.parametrize("form", ["python", "mlflow"])
@pytest.mark.parametrize("wish", ["auto", "inline", "thread", "process"])
def test_code_of_a_model_file_never_runs_in_the_server(form: str, wish: Any) -> None:
    found = placed(form, policy=Policy(executor=wish, processes=2))
    assert (found.kind, found.slots) == ("process", 2)


@given(FORMATS | st.sampled_from(["python", "mlflow"]), SECONDS, POLICIES)
def test_what_must_be_confined_runs_in_a_process_or_not_at_all(
    form: str, seconds: float | None, policy: Policy
) -> None:
    def confined() -> Placed:
        return place(format=form, example_seconds=seconds, policy=policy, options={}, cores=4, confined=True)

    if policy.executor in ("auto", "process") or form in ("python", "mlflow"):
        assert confined().kind == "process"
    else:
        with pytest.raises(SurroundingsError, match="deploy it with --executor process"):
            confined()

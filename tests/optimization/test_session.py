"""The search for session options: what is tried, what is believed, and what a package keeps of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optimization.graphs import convolution
from servable.artifact.manifest import Timing, Variant
from servable.errors import ModelFailed
from servable.frameworks.lookup import adapter
from servable.frameworks.onnx_session import (
    DEFAULT,
    SESSION,
    SessionChoice,
    in_words,
    kind_of_machine,
    stored_choice,
    usable_cores,
)
from servable.optimization import session
from servable.optimization.measure import time_predictor
from servable.optimization.session import beats, best, grid, search, tune, usual, variations
from servable.optimization.trials import FEWEST_ROUNDS, LONG_S, Trial, same

LONG = 0.006
Cost = Callable[[SessionChoice], float]


def measured(work: Cost, *, busy: float = 1.0, rounds: int = 5, noise: float = 0.0) -> session.Measure:
    """A measure that knows what each choice costs; the noise goes up and down from round to round."""

    def measure(choices: Sequence[SessionChoice]) -> Mapping[SessionChoice, Sequence[Trial]]:
        return {
            choice: [
                Trial(0.001, work(choice) * (1 + noise * (-1) ** (turn + place)), busy)
                for turn in range(rounds)
            ]
            for place, choice in enumerate(choices)
        }

    return measure


def test_short_models_end_with_the_defaults_unless_something_is_clearly_faster() -> None:
    assert search(measured(lambda choice: 1.0), seconds=1e-5, cores=8) == DEFAULT
    slightly = measured(lambda choice: 0.97 if not choice.arena else 1.0)
    assert search(slightly, seconds=1e-5, cores=8) == DEFAULT
    clearly = measured(lambda choice: 0.9 if not choice.arena else 1.0)
    assert search(clearly, seconds=1e-5, cores=8) == SessionChoice(arena=False, patterns=False)


def test_noise_larger_than_the_gain_changes_nothing() -> None:
    noisy = measured(lambda choice: 0.92 if choice.level == "basic" else 1.0, noise=0.3)
    assert search(noisy, seconds=1e-5, cores=2) == DEFAULT


def test_a_long_model_runs_on_every_core_even_if_nothing_can_be_measured() -> None:
    assert usual(2, seconds=LONG) == SessionChoice(slots=2)
    assert usual(64, seconds=LONG).slots < 64
    assert usual(2, seconds=LONG_S) == DEFAULT
    disturbed = measured(lambda choice: 0.5 if choice.threads > 1 else 1.0, busy=0.4)
    assert search(disturbed, seconds=LONG, cores=2) == SessionChoice(slots=2)


def test_a_long_model_takes_the_threads_that_are_faster() -> None:
    wide = measured(lambda choice: 1 / choice.threads)
    assert search(wide, seconds=LONG, cores=4) == SessionChoice(threads=4)
    both = measured(lambda choice: 0.5 if (choice.threads, choice.slots) == (2, 2) else 1.0)
    assert search(both, seconds=LONG, cores=4) == SessionChoice(threads=2, slots=2)


def test_one_row_counts_where_rows_a_second_are_nearly_the_same() -> None:
    slots, threads = [Trial(0.060, 1.00)] * 5, [Trial(0.008, 1.08)] * 5
    assert beats(threads, slots), "seven times faster for one caller at a price of eight in a hundred"
    assert not beats([Trial(0.030, 1.13)] * 5, slots)


def test_a_winner_has_to_win_once_more() -> None:
    calls = []

    def measure(choices: Sequence[SessionChoice]) -> Mapping[SessionChoice, Sequence[Trial]]:
        calls.append(tuple(choices))
        lucky = len(calls) == 1
        return {
            choice: [Trial(1e-5, 0.8 if lucky and choice.level == "basic" else 1.0)] * 5 for choice in choices
        }

    assert search(measure, seconds=1e-5, cores=1) == DEFAULT
    assert calls[-1] == (DEFAULT, SessionChoice(level="basic"))


def test_providers_are_tried_beside_the_processor() -> None:
    quick = measured(lambda choice: 0.1 if choice.provider == "CUDAExecutionProvider" else 1.0)
    found = search(quick, seconds=1e-5, cores=1, providers=["CUDAExecutionProvider"])
    assert found == SessionChoice(provider="CUDAExecutionProvider")


def test_what_takes_seconds_is_compared_once() -> None:
    calls = []

    def measure(choices: Sequence[SessionChoice]) -> Mapping[SessionChoice, Sequence[Trial]]:
        calls.append(choices)
        return {choice: [Trial(1 / choice.threads, 1 / choice.threads)] for choice in choices}

    assert search(measure, seconds=4.0, cores=8) == SessionChoice(threads=8)
    assert len(calls) == 1


@given(cores=st.integers(1, 256), seconds=st.floats(1e-6, 100.0))
def test_no_choice_asks_for_more_than_there_is(cores: int, seconds: float) -> None:
    start, choices = usual(cores, seconds=seconds), grid(cores, seconds=seconds)
    assert start not in choices
    assert len({start, *choices}) == len(choices) + 1
    for choice in (start, *choices):
        assert 1 <= choice.threads <= cores
        assert 1 <= choice.slots <= cores
        assert choice.threads == 1 or seconds > LONG_S
        assert choice not in variations(choice)
    assert len(choices) <= 32


CHEAPER = (Trial(1.0, 1.0, 1.0), Trial(1.0, 0.5, 0.0))
TRIALS = st.builds(Trial, st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.floats(0.0, 4.0))


@given(rounds=st.lists(st.tuples(TRIALS, TRIALS), min_size=1, max_size=7))
# Each is cheaper in the rounds in which the other one alone had its cores.
@example(rounds=[(Trial(1, 1, 0), Trial(1, 1, 0)), *[CHEAPER] * 3, *[CHEAPER[::-1]] * 3])
def test_a_comparison_is_never_won_by_both(rounds: list[tuple[Trial, Trial]]) -> None:
    left, right = [first for first, _ in rounds], [second for _, second in rounds]
    assert not (beats(left, right) and beats(right, left))
    assert not beats(left, left)
    assert best({DEFAULT: left}, DEFAULT) == DEFAULT
    if sum(trial.busy >= 0.9 for trial in right) < min(FEWEST_ROUNDS, len(right)):
        assert not beats(left, right)


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.lists(st.floats(-5, 5), min_size=1), min_size=1))
def test_answers_are_the_same_as_themselves_and_not_as_others(values: dict[str, list[float]]) -> None:
    answers = {name: np.array(numbers) for name, numbers in values.items()}
    assert same(answers, {name: array.copy() for name, array in answers.items()}, tolerance=0.0)
    first = next(iter(answers))
    assert same(answers, {**answers, first: answers[first] + 5e-5}, tolerance=1e-4)
    assert not same(answers, {**answers, first: answers[first] + 50.0}, tolerance=1e-4)
    assert not same(answers, {**answers, first: answers[first].astype(np.float32)}, tolerance=1e-4)
    assert not same(answers, {**answers, first: answers[first][:0]}, tolerance=1e-4)
    assert not same(answers, {**answers, "other": answers[first]}, tolerance=1e-4)


def test_labels_and_texts_must_be_equal() -> None:
    assert not same({"p": np.array([1, 2])}, {"p": np.array([1, 3])}, tolerance=9.0)
    words = np.array(["a", "b"], dtype=object)
    assert same({"p": words}, {"p": words.copy()}, tolerance=0.0)
    assert not same({"p": words}, {"p": words[::-1]}, tolerance=0.0)


@pytest.mark.parametrize("batch", ["rows", 1])
def test_a_real_model_is_searched_and_the_package_keeps_it(tmp_path: Path, batch: int | str) -> None:
    variant, rows = written(convolution(tmp_path / "small.onnx", batch=batch), tmp_path)
    elsewhere = {"threads": 7}
    given = msgspec.structs.replace(variant, options={**variant.options, SESSION: {"elsewhere": elsewhere}})
    done = tune(tmp_path, given, rows, budget_s=0.3)
    kept = done.variant.options[SESSION]
    assert kept["elsewhere"] == elsewhere
    found = stored_choice(done.variant.options)
    assert found is not None
    assert found.seconds > 0
    assert done.note.startswith("trained: ")
    assert done.variant.options["feeds"] == variant.options["feeds"]
    assert [timing.rows for timing in done.variant.timings] == ([1, 8, 32] if batch == "rows" else [1])


def test_a_long_model_ends_with_every_core_busy(tmp_path: Path) -> None:
    path = convolution(tmp_path / "long.onnx", side=48, channels=48)
    variant, rows = written(path, tmp_path, batches=(1,))
    assert variant.timings[0].seconds > LONG_S
    found = stored_choice(tune(tmp_path, variant, rows, budget_s=0.5).variant.options)
    assert found is not None
    assert found.threads * found.slots >= min(usable_cores(), 2)


def test_a_choice_that_is_not_proven_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant, rows = written(convolution(tmp_path / "small.onnx"), tmp_path)
    monkeypatch.setattr(session, "search", lambda *_, **__: SessionChoice(level="basic"))
    asked = []
    done = tune(tmp_path, variant, rows, proven=lambda predictor: bool(asked.append(predictor)))
    assert len(asked) == 1
    found = stored_choice(done.variant.options)
    assert found is not None
    assert msgspec.structs.replace(found, seconds=0.0) == DEFAULT
    taken = tune(tmp_path, variant, rows, proven=lambda predictor: True)
    assert taken.note == "trained: basic graph optimisation"


def test_a_package_remembers_the_latest_machines_only() -> None:
    many = {f"machine {number}": {} for number in range(40)}
    variant = Variant(name="trained", format="onnx", path="model.onnx", options={SESSION: many})
    kept = session.with_choice(variant, DEFAULT).options[SESSION]
    assert len(kept) == 16
    assert list(kept)[-1] == kind_of_machine()
    hostile = msgspec.structs.replace(variant, options={SESSION: "nonsense"})
    assert list(session.with_choice(hostile, DEFAULT).options[SESSION]) == [kind_of_machine()]


def test_findings_of_other_machines_stay_beside_the_new_one() -> None:
    made = Variant(name="a", format="onnx", path="a", options={SESSION: {"here": {"slots": 2}}})
    former = msgspec.structs.replace(made, options={SESSION: {"there": {"slots": 3}, "here": {"slots": 9}}})
    assert session.with_findings(made, former).options[SESSION] == {
        "there": {"slots": 3},
        "here": {"slots": 2},
    }
    bare = msgspec.structs.replace(made, options={})
    assert session.with_findings(made, bare) == made


def test_rows_with_the_largest_numbers_are_compared_too(tmp_path: Path) -> None:
    variant, rows = written(convolution(tmp_path / "small.onnx"), tmp_path)
    extreme = {name: np.full_like(part, np.finfo(np.float32).max) for name, part in rows.items()}
    assert tune(tmp_path, variant, extreme, budget_s=0.1).note.startswith("trained: ")


def test_a_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    variant = Variant(name="trained", format="onnx", path="model.onnx", options={"feeds": [], "outputs": {}})
    with pytest.raises(ModelFailed, match=r"model\.onnx"):
        tune(tmp_path, variant, {"image": np.zeros((1, 1))})


def test_choices_in_words() -> None:
    assert in_words(DEFAULT) == "the default options"
    odd = SessionChoice(threads=2, slots=3, arena=False, level="basic", provider="CUDAExecutionProvider")
    words = "2 threads in a run, 3 runs at once, no memory arena, basic graph optimisation, "
    assert in_words(odd) == words + "CUDAExecutionProvider"
    assert in_words(SessionChoice(patterns=False)) == "no memory pattern"


def written(
    path: Path, folder: Path, batches: tuple[int, ...] = (1, 8, 32)
) -> tuple[Variant, dict[str, np.ndarray]]:
    """The model in a package folder with timings, and rows that it takes."""
    onnx = adapter("onnx")
    trained = onnx.read(path, sample=None, trust=False)
    variant = onnx.write(trained, folder)
    (field,) = trained.signature.inputs
    rows = {field.name: np.random.default_rng(1).standard_normal((3, *field.shape)).astype(np.float32)}
    predictor = onnx.load(folder, variant, trained.signature, trust=False)
    timings = time_predictor(predictor, rows, batches, budget=0.02)
    assert isinstance(timings[0], Timing)
    return msgspec.structs.replace(variant, timings=timings), rows

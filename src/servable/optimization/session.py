"""Session options for one ONNX variant on this kind of machine: a short search, kept in the package.

A run of a long model may use several threads, or several runs may go on at once, or both; onnxruntime
may keep memory, lay it out beforehand and rewrite the graph more or less; and some machines have other
execution providers. What is best differs from machine to machine, so it is measured, in rounds in which
every choice takes its turn, so that a disturbance meets all of them. The usual options stay unless
something else is clearly faster and answers the same. Everything but ``tune`` is pure, given the
measuring.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from servable.artifact.manifest import Variant
from servable.clock import Clock, SystemClock
from servable.frameworks.base import Predictor
from servable.frameworks.onnx import predictor_with
from servable.frameworks.onnx_session import (
    DEFAULT,
    SESSION,
    SessionChoice,
    in_words,
    kind_of_machine,
    other_providers,
    usable_cores,
)
from servable.optimization import parity
from servable.optimization.measure import time_predictor
from servable.optimization.trials import FEWEST_ROUNDS, LONG_S, Trial, Turns
from servable.tensors import Arrays

#: Formats that have session options.
FORMATS = frozenset({"onnx"})
#: Seconds for the whole search of a variant, about.
BUDGET_S = 3.0
#: Beyond this the search compares one thread with all cores once, because a round alone takes so long.
_TOO_LONG_S = 1.0
#: Runs of a long model that go on at once without being measured, at most.
_USUAL_SLOTS = 8
#: A choice is taken only when it is cheaper by more than this.
MARGIN = 0.05
#: What the speed of one row counts beside the rows a second: halving the one is worth 12 % of the other.
_LATENCY_SHARE = 1 / 6
#: Share of the cores it asked for that an undisturbed choice gets.
_UNDISTURBED = 0.9
#: A package remembers this many kinds of machine; the oldest finding goes first.
_MOST_MACHINES = 16

#: Measures choices in rounds; every choice that can be opened and answers the same has as many trials as
#: the others, and the first one is always among them.
Measure = Callable[[Sequence[SessionChoice]], Mapping[SessionChoice, Sequence[Trial]]]


def cost(trial: Trial) -> float:
    """What a choice is judged by; less is better. Mostly calls a second, and a little the time of one."""
    return trial.work * float(trial.seconds**_LATENCY_SHARE)


def beats(candidate: Sequence[Trial], incumbent: Sequence[Trial]) -> bool:
    """Whether a choice is cheaper beyond margin and noise: in the median, and in nearly every round.

    Rounds in which somebody else had the cores of either do not count, because then the choice with the most
    threads wins the most of them; with fewer than three others nothing is believed, unless there was one
    alone. Both are judged by the same rounds, so never does each beat the other.
    """
    rounds = zip(candidate, incumbent, strict=True)
    ratios = [cost(new) / cost(old) for new, old in rounds if min(new.busy, old.busy) >= _UNDISTURBED]
    if len(ratios) < min(FEWEST_ROUNDS, len(incumbent)):
        return False
    worse = sum(ratio >= 1.0 for ratio in ratios)
    return statistics.median(ratios) < 1.0 - MARGIN and worse <= len(ratios) // 5


def best(found: Mapping[SessionChoice, Sequence[Trial]], incumbent: SessionChoice) -> SessionChoice:
    """The cheapest choice that beats the incumbent; the incumbent when none does."""
    beating = [choice for choice in found if choice != incumbent and beats(found[choice], found[incumbent])]
    return min(beating, key=lambda choice: statistics.median(map(cost, found[choice])), default=incumbent)


def usual(cores: int, *, seconds: float) -> SessionChoice:
    """What is right unless measuring says otherwise, given how long one row takes with the defaults.

    A short model runs alone in one thread. Runs of a long one do not disturb each other while there are
    cores for them, so several go on at once; one run then takes no longer than before.
    """
    return DEFAULT if seconds <= LONG_S else SessionChoice(slots=max(min(cores, _USUAL_SLOTS), 1))


def grid(cores: int, *, seconds: float) -> tuple[SessionChoice, ...]:
    """Threads and runs at once worth trying beside the usual for a model whose row takes so long."""
    if seconds <= LONG_S or cores <= 1:
        return ()
    if seconds > _TOO_LONG_S:
        return (SessionChoice(threads=cores),)
    steps = sorted({2**power for power in range(cores.bit_length()) if 2**power < cores} | {cores})
    pairs = [(threads, slots) for threads in steps for slots in sorted({1, max(cores // threads, 1), 2})]
    choices = (SessionChoice(threads=threads, slots=slots) for threads, slots in pairs)
    return tuple(choice for choice in choices if choice != usual(cores, seconds=seconds))


def variations(choice: SessionChoice) -> tuple[SessionChoice, ...]:
    """The same choice with one of its other options changed."""
    change = msgspec.structs.replace
    return (
        change(choice, patterns=False),
        change(choice, arena=False, patterns=False),
        change(choice, level="extended"),
        change(choice, level="basic"),
    )


def search(measured: Measure, *, seconds: float, cores: int, providers: Sequence[str] = ()) -> SessionChoice:
    """The choice to serve with. Each step keeps what it has unless something clearly beats it.

    Args:
        measured: times choices.
        seconds: what one row takes with the defaults.
        cores: cores that may be used.
        providers: execution providers to try besides the processor.
    """
    choice = start = usual(cores, seconds=seconds)
    for step in (
        lambda held: grid(cores, seconds=seconds),
        lambda held: [msgspec.structs.replace(held, provider=name) for name in providers],
        lambda held: variations(held) if seconds <= _TOO_LONG_S else (),
    ):
        others = step(choice)
        if others:
            choice = best(measured((choice, *others)), choice)
    if choice == start or seconds > _TOO_LONG_S:
        return choice
    # The winner of many comparisons was lucky more often than not, so it has to win once more.
    return best(measured((start, choice)), start)


class Tuned(NamedTuple):
    """What came of a search.

    Attributes:
        variant: with the finding for this kind of machine among its options, and timings made with it.
        note: one line for people.
    """

    variant: Variant
    note: str


def tune(
    folder: Path,
    variant: Variant,
    rows: Arrays,
    *,
    tolerance: float = parity.TOLERANCE,
    proven: Callable[[Predictor], bool] | None = None,
    budget_s: float = BUDGET_S,
    clock: Clock | None = None,
) -> Tuned:
    """Search for session options and keep them in the variant.

    Args:
        folder: the package, in which the variant's file lies.
        variant: of format ``onnx``, with its timings.
        rows: packed rows to time with, at least one.
        tolerance: largest difference of an answer from the default's.
        proven: asked once about a choice that is not the default, on top of a comparison with the
            default's answers to some rows; false means that the defaults stay.
        budget_s: seconds for the search, about.
        clock: reads the time.

    Raises:
        ModelFailed: the model does not answer one row.
    """
    path = folder / variant.path
    turns = Turns(path, variant, rows, tolerance=tolerance, clock=clock or SystemClock(), budget_s=budget_s)
    choice = search(turns, seconds=turns.seconds, cores=usable_cores(), providers=other_providers())
    timings = variant.timings
    if msgspec.structs.replace(choice, slots=1) != DEFAULT:
        predictor = predictor_with(path, variant.options, choice)
        if predictor is None or (proven is not None and not proven(predictor)):
            choice = usual(usable_cores(), seconds=turns.seconds)
        else:
            timings = time_predictor(predictor, rows, [timing.rows for timing in timings] or [1])
            predictor.close()
    seconds = timings[0].seconds if timings else turns.seconds
    tuned = with_choice(variant, msgspec.structs.replace(choice, seconds=seconds))
    return Tuned(msgspec.structs.replace(tuned, timings=timings), f"{variant.name}: {in_words(choice)}")


def with_choice(variant: Variant, choice: SessionChoice) -> Variant:
    """The variant with the finding for this kind of machine; those for others stay."""
    kept = variant.options.get(SESSION)
    others = dict(kept) if isinstance(kept, Mapping) else {}
    others.pop(kind_of_machine(), None)
    found = [*others.items(), (kind_of_machine(), msgspec.structs.asdict(choice))]
    options = {**variant.options, SESSION: dict(found[-_MOST_MACHINES:])}
    return msgspec.structs.replace(variant, options=options)


def with_findings(variant: Variant, former: Variant) -> Variant:
    """The variant with what was found for other kinds of machine on the same file; pure."""
    entries = former.options.get(SESSION)
    if not isinstance(entries, Mapping):
        return variant
    merged = {**entries, **variant.options.get(SESSION, {})}
    return msgspec.structs.replace(variant, options={**variant.options, SESSION: merged})

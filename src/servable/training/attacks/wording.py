"""What attacks found, in sentences that say who could do what."""

from collections.abc import Sequence

from servable.training.attacks.extraction import best
from servable.training.attacks.records import Attack, Copied, Extraction
from servable.training.wording import percent

#: From this fidelity on a copy is as good as the model for most purposes.
_COPIED = 0.95


def said_of_members(
    attacks: Sequence[Attack], blind: Attack | None, members: int, others: int
) -> tuple[str, ...]:
    """What is known about telling members from others, in two to four sentences."""
    if not attacks:
        return ("No attack on membership was tried.",)
    sure = [attack for attack in attacks if attack.sure]
    strongest = (sure or attacks)[0]
    sharpest = max(attacks, key=lambda one: one.tpr)
    said = []
    if sure:
        said.append(
            f"An attacker who has {strongest.needs} can tell better than by guessing whether the model "
            f"learned from a row: of a member and another row it picks the member in {_share(strongest.auc)} "
            f"of the cases (95 % interval {_share(strongest.auc_low)} to {_share(strongest.auc_high)}; "
            "guessing gives 50 %)."
        )
    else:
        said.append(
            f"None of {len(attacks)} attacks tells members from others better than guessing, as far as "
            f"{members:,} and {others:,} rows can show it: the strongest picks the member in "
            f"{_share(strongest.auc)} of the cases (95 % interval {_share(strongest.auc_low)} to "
            f"{_share(strongest.auc_high)}; guessing gives 50 %)."
        )
    said.append(
        f"While at most 1 % of the others are accused wrongly, {_share(sharpest.tpr)} of the members are "
        f"found (95 % interval {_share(sharpest.tpr_low)} to {_share(sharpest.tpr_high)}; guessing finds "
        "1 %)."
    )
    if blind is not None and blind.sure:
        said.append(
            f"The two files differ by themselves: without asking the model the member is picked in "
            f"{_share(blind.auc)} of the cases, so these figures say more than the model gives away; compare "
            "with rows drawn from the same source at the same time."
        )
    if sure:
        said.append(
            "Less fitting (stronger regularisation, larger leaves), more rows, or training with "
            "--privacy-epsilon help; rounding or hiding probabilities does not."
        )
    return tuple(said)


def said_of_copies(extractions: Sequence[Extraction], usual: float, *, numbers: bool) -> tuple[str, ...]:
    """What is known about copying the model, in one to three sentences."""
    found = best(extractions)
    if found is None:
        return ("No attempt was made to copy the model: that is there for tables only.",)
    said = []
    for extraction in extractions:
        enough = next((point for point in extraction.points if point.fidelity >= _COPIED), None)
        last = enough or max(extraction.points, key=lambda point: point.fidelity)
        said.append(_copy(extraction, last, numbers))
    said.append(
        "For comparison, a copy that always gives the mean explains nothing."
        if numbers
        else f"For comparison, a copy that always gives the most frequent label agrees on {_share(usual)}."
    )
    if found[1].fidelity >= _COPIED:
        said.append(
            "Whoever may ask that often may own a copy; quotas of keys make that slow and visible, and do "
            "not prevent it."
        )
    return tuple(said)


def _copy(extraction: Extraction, point: Copied, numbers: bool) -> str:
    agrees = (
        "explains {} of the model's variance" if numbers else "gives the model's label for {} of new rows"
    )
    return (
        f"An attacker who sees {extraction.needs} and asks for {point.queries:,} rows gets, by "
        f"{extraction.title}, a copy that {agrees.format(_share(point.fidelity))} (95 % interval "
        f"{_share(point.low)} to {_share(point.high)})."
    )


def _share(value: float) -> str:
    return percent(value)

"""What attacks on a model found: records that travel as JSON and that the page is made of."""

import msgspec


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """One way to tell rows that a model learned from (members) from others, and how well it did.

    Attributes:
        name: of the attack, a word.
        title: what it goes by, for people.
        needs: what the attacker has to have, a part of a sentence.
        auc: share of pairs of a member and another row that it puts in the right order; 0.5 is guessing.
        auc_low: lower end of its 95 % interval (DeLong).
        auc_high: upper end.
        auc_sure: the AUC that it has for sure: those of all attacks hold at once with 97.5 % (Bonferroni).
        sure: whether ``auc_sure`` is above 0.5, so that it does better than chance.
        tpr: share of the members that it finds while it accuses at most 1 % of the others.
        tpr_low: lower end of its 95 % interval; those of all attacks hold at once.
        tpr_high: upper end.
        roc_x: false positive rates of the ROC curve, thinned.
        roc_y: true positive rates at them.
    """

    name: str
    title: str
    needs: str
    auc: float
    auc_low: float
    auc_high: float
    auc_sure: float
    sure: bool
    tpr: float
    tpr_low: float
    tpr_high: float
    roc_x: tuple[float, ...] = ()
    roc_y: tuple[float, ...] = ()


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """How good a copy is that was made of so many answers.

    Attributes:
        queries: rows that the attacker asked for.
        fidelity: share of new rows for which the copy gives the model's label; for numbers R² of the copy's
            values against the model's.
        low: lower end of the 95 % interval (Wilson for labels, bootstrap for numbers).
        high: upper end.
    """

    queries: int
    fidelity: float
    low: float
    high: float


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """One way to copy a model by asking it.

    Attributes:
        name: of the attack, a word.
        title: how the copy is made, for people.
        needs: what the attacker has to see.
        points: by number of queries, rising.
    """

    name: str
    title: str
    needs: str
    points: tuple[Copied, ...]


class PrivacyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What attackers who may ask a model find out about its training rows and about itself.

    Attributes:
        model: its name.
        version: that was asked.
        task: of the model.
        asked: what answered: the form that serves, or the address of a server.
        members: rows that the model learned from, as many as were used.
        others: rows that it did not learn from.
        left_out: other rows that are members, too, and were left out.
        attacks: on membership, the strongest first.
        blind: how well members and others are told apart without asking the model; None where that could not
            be tried. Above 0.5 the two files differ by themselves, and attacks look stronger than they are.
        extractions: attempts to copy the model.
        usual: fidelity of a copy that always gives the most frequent label, or the mean.
        verdict: sentences about membership.
        copying: sentences about copies.
        notes: what was not tried, and why.
        privacy: the differential privacy that the package records; empty where it was trained without.
        created_at: ISO 8601.
    """

    model: str
    version: int
    task: str
    asked: str
    members: int
    others: int
    left_out: int
    attacks: tuple[Attack, ...]
    blind: Attack | None
    extractions: tuple[Extraction, ...]
    usual: float
    verdict: tuple[str, ...]
    copying: tuple[str, ...]
    notes: tuple[str, ...] = ()
    privacy: dict[str, object] = {}
    created_at: str = ""

    @property
    def leaks(self) -> bool:
        """Whether some attack tells members from others beyond chance."""
        return any(attack.sure for attack in self.attacks)

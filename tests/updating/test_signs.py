"""Findings of monitoring as one sentence each, and silence where there is no alarm."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from servable.registry import tables
from servable.registry.home import open_home
from servable.updating.gate import GateRules
from servable.updating.options import UpdateOptions
from servable.updating.plan import Triggers
from servable.updating.signs import Signs, drifted, signs, worse
from servable.updating.update import update
from updating.making import rows, write_traffic

DRIFT = {
    "columns": [
        {"name": "vicprice", "state": "drift", "since_row": 17_424},
        {"name": "nswdemand", "state": "over", "since_row": 100},
        {"name": "transfer", "state": "drift", "since_row": None},
        {"name": "day", "state": "steady"},
    ]
}


def quality(value: float, low: float | None, high: float | None, metric: str = "accuracy") -> dict[str, Any]:
    return {"recent": {"metrics": {metric: {"value": value, "low": low, "high": high}}}}


def test_only_columns_in_drift_now_are_named() -> None:
    assert drifted(DRIFT) == "vicprice since row 17424, transfer"
    assert drifted({"columns": [{"name": "day", "state": "steady"}]}) == ""
    assert drifted({}) == ""


def test_a_long_list_of_columns_is_cut() -> None:
    many = {"columns": [{"name": f"c{number}", "state": "drift"} for number in range(8)]}
    assert drifted(many) == "c0, c1, c2, c3, c4 and 3 more"


@pytest.mark.parametrize(
    ("found", "evaluated", "said"),
    [
        (quality(0.6, 0.55, 0.65), {"accuracy": 0.8}, "accuracy 0.6, on held-out rows 0.8"),
        (quality(0.74, 0.70, 0.78), {"accuracy": 0.8}, ""),
        (quality(0.6, None, None), {"accuracy": 0.8}, ""),
        (quality(0.6, 0.55, 0.65), {}, ""),
        (quality(3.0, 2.6, 3.4, "rmse"), {"rmse": 2.0}, "rmse 3, on held-out rows 2"),
        (quality(3.0, 2.4, 3.6, "rmse"), {"rmse": 2.0}, ""),
        ({}, {"accuracy": 0.8}, ""),
    ],
)
def test_answers_are_worse_when_even_the_good_end_is(
    found: dict[str, Any], evaluated: dict[str, float], said: str
) -> None:
    assert worse(found, evaluated) == said


def find_drift(home: Path) -> None:
    """Keep ``DRIFT`` as the finding about ``shops:1``."""
    with open_home(home) as place, place.state.writing() as connection:
        connection.execute(
            insert(tables.findings).values(
                model="shops", version=1, kind="drift", updated_at="2026-01-01T00:00:00Z", value=DRIFT
            )
        )


def test_a_finding_about_the_present_version_makes_a_turn_due(shops: Path) -> None:
    asked = UpdateOptions(triggers=Triggers(drift=True), tune=False)
    write_traffic(shops, "shops", rows(400, seed=2, turned=True), first=0)
    assert update("shops", asked, home=shops).reason == "waiting for drift"
    find_drift(shops)
    with open_home(shops) as place:
        assert signs(place, place.models.resolve("shops:1")) == Signs("vicprice since row 17424, transfer")
    outcome = update("shops", asked, home=shops)
    assert outcome.reason == "drift: vicprice since row 17424, transfer"
    # The finding is about version 1; the version that took over has none yet.
    assert not update("shops", asked, home=shops).due


@pytest.mark.parametrize(("found", "state"), [(False, "refused"), (True, "promoted")])
def test_drift_decides_whom_the_gate_favours(found: bool, state: str, shops: Path) -> None:
    """Two models that are alike: only drift gives the newer one the benefit of the doubt."""
    write_traffic(shops, "shops", rows(300, seed=3), first=0)
    if found:
        find_drift(shops)
    outcome = update("shops", UpdateOptions(tune=False, gate=GateRules(favour="drift")), home=shops)
    assert outcome.turn is not None
    assert outcome.turn.state == state
    assert outcome.turn.record["signs"] == {
        "drift": "vicprice since row 17424, transfer" if found else "",
        "quality": "",
    }

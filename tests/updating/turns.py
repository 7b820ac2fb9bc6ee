"""Records of turns, without making any."""

from typing import Any

import msgspec

from servable.registry.turns import TurnRecord
from servable.updating.gate import Comparison, Gain
from servable.updating.options import UpdateOptions, stored

COLLECTED = {
    "rows": 1000, "original": 300, "traffic": 700, "unseen": 700, "learned": 650, "held": 350, "strange": 2,
    "until": "2026-01-01T02:18:19.000000+00:00", "learned_until": "", "labelled_until": "", "seconds": 1.5,
}  # fmt: skip


def gain(name: str = "all", low: float = 0.05, gain: float = 0.1, high: float = 0.15) -> Gain:
    return Gain(
        name=name, rows=350, champion=0.5, challenger=0.5 + gain, gain=gain, low=low, high=high, sure=low
    )


def turn(state: str = "promoted", number: int = 7, metric: str = "accuracy", **more: Any) -> TurnRecord:
    """A turn that came to its end."""
    compared = Comparison(metric=metric, whole=gain(), slices=(gain("shop=<b>", -0.1, -0.05, -0.01),))
    record = {
        "reason": "drift: x since row 120", "options": stored(UpdateOptions()), "champion": 1,
        "signs": {"drift": "x since row 120", "quality": "accuracy 0.55, on held-out rows 0.87"},
        "drifting": [
            {"name": "x", "side": "input", "since": "2026-01-01T03:00:00Z", "since_row": 120, "effect": 0.43},
            {"name": "error", "side": "quality", "since": "", "since_row": 1300, "effect": 0.12},
        ],
        "collect": COLLECTED,
        "train": {"estimator": "logistic", "params": {"C": 1.0}, "seed": 0, "rows": 650, "seconds": 0.5},
        "evaluate": {**msgspec.to_builtins(compared), "seconds": 1.0},
        "gate": {"passed": state != "refused", "reasons": ["accuracy 0.5 -> 0.6"], "seconds": 0.0},
        "optimise": {"serving": "onnx-fp64", "timing": ["one row takes 14 us"], "refitted": True,
                     "seconds": 2.0},
        "register": {"version": 2, "package": "abc", "seconds": 0.1},
        "deploy": {"deploy": "now", "seconds": 0.1},
        "said": "shops:2 took over",
        **more,
    }  # fmt: skip
    return TurnRecord(
        id=number, model="shops", state=state, step="deploy",  # type: ignore[arg-type]
        started_at=f"2026-01-{number:02}T00:00:00Z", ended_at=f"2026-01-{number:02}T00:00:09Z",
        record={key: value for key, value in record.items() if value is not None},
    )  # fmt: skip

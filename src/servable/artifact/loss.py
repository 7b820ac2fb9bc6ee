"""What lossy forms may cost in a metric, and what one of them was found to cost."""

import msgspec


class MaxLoss(msgspec.Struct, frozen=True):
    """The most that a lossy form may be worse than the trained model.

    Attributes:
        metric: name of the metric, such as ``accuracy``, ``f1_macro`` or ``rmse``.
        most: how much worse it may be, at least 0: in the metric's own unit, whichever direction is better.
        relative: whether ``most`` is a share of the trained model's value instead, 0.01 for 1 %.
    """

    metric: str
    most: float
    relative: bool = False


class Loss(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a lossy variant costs in a metric, on held-out rows whose true answers are known.

    Attributes:
        metric: its name, ``accuracy`` ...
        rows: how many rows were measured.
        passed: whether the loss is small enough.
        trained: its value for the trained model; None, like what follows, where nothing could be measured.
        variant: its value for the variant, on the same rows.
        loss: by how much the variant is worse; negative where it is better.
        most: what was allowed, in the metric's own unit.
        low: lower end of the 95 % interval of the loss.
        high: its upper end.
        reason: one sentence when not passed.
    """

    metric: str
    rows: int
    passed: bool
    trained: float | None = None
    variant: float | None = None
    loss: float | None = None
    most: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

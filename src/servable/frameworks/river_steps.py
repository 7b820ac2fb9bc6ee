"""Preparation steps of our own for River pipelines: columns in a fixed order, and dates as numbers."""

from datetime import UTC, datetime
from typing import Any

from river import base, preprocessing

#: What ``DateParts`` makes of each column, in this order; the same as for batch training.
PARTS = ("days", "year", "month", "day", "weekday", "hour")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_DAY_S = 86_400.0


class Columns(base.MiniBatchTransformer):  # type: ignore[misc]  # River has no types here
    """Some columns of a row, in the order in which they were named.

    River's own ``Select`` holds a set, whose order differs from process to process, and with it the last
    digit of every sum that is formed behind it.
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def transform_one(self, x: dict[str, Any]) -> dict[str, Any]:
        """The named columns; one that is absent is None."""
        return {name: x.get(name) for name in self.names}

    def learn_many(self, X: Any) -> None:  # noqa: N803 - as River names it
        """Nothing is learned."""

    def transform_many(self, X: Any) -> Any:  # noqa: N803 - as River names it
        """The named columns of a table."""
        return X[list(self.names)]


class DateParts(base.MiniBatchTransformer):  # type: ignore[misc]  # see above
    """Dates as numbers that a model can learn from: trend, season, weekday and hour. Holds no state."""

    def transform_one(self, x: dict[str, Any]) -> dict[str, Any]:
        """The ``PARTS`` of every column, as ``sold_at_year``; None for a date that is missing."""
        return {
            f"{name}_{part}": value for name, moment in x.items() for part, value in _parts(moment).items()
        }

    def learn_many(self, X: Any) -> None:  # noqa: N803 - as River names it
        """Nothing is learned."""

    def transform_many(self, X: Any) -> Any:  # noqa: N803 - as River names it
        """The same of a table of moments, none of them missing."""
        made = {name: [_parts(moment) for moment in X[name].dt.to_pydatetime()] for name in X.columns}
        return type(X)(
            {f"{name}_{part}": [each[part] for each in held] for name, held in made.items() for part in PARTS}
        )


class Filled(preprocessing.StatImputer):  # type: ignore[misc]  # see above
    """Missing values filled in with what was usual so far."""

    def learn_many(self, X: Any) -> None:  # noqa: N803 - as River names it
        """Learn from every row of a table."""
        for row in X.to_dict("records"):
            self.learn_one(row)

    def transform_many(self, X: Any) -> Any:  # noqa: N803 - as River names it
        """A table in which nothing is missing stays as it is; with others nobody asks for many at once."""
        return X


def names_of_parts(columns: tuple[str, ...]) -> tuple[str, ...]:
    """What ``DateParts`` calls its answers for these columns."""
    return tuple(f"{name}_{part}" for name in columns for part in PARTS)


def _parts(moment: Any) -> dict[str, float | None]:
    if not isinstance(moment, datetime):
        return dict.fromkeys(PARTS)
    days = (moment - _EPOCH).total_seconds() // _DAY_S
    values = (days, moment.year, moment.month, moment.day, moment.weekday(), moment.hour)
    return dict(zip(PARTS, map(float, values), strict=True))

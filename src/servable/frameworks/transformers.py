"""Preparation steps of our own for scikit-learn pipelines; ``optimize`` compiles each exactly."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

#: What ``DateParts`` makes of each column, in this order.
PARTS = ("days", "year", "month", "day", "weekday", "hour")

_DAY_SECONDS = 86400.0
_HOUR_SECONDS = 3600.0


def civil_parts(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The parts of moments in UTC, by arithmetic that floating point does exactly for every real date.

    Counts days from 0000-03-01, so that the leap day ends a year; an era is 400 years. The compiled form
    does the same operations in the same order.

    Args:
        seconds: float64 ``[rows, columns]`` since 1970-01-01 UTC, NaN where missing.

    Returns:
        float64 ``[rows, columns, 6]``: days since 1970, year, month 1-12, day 1-31, weekday with Monday 0,
        hour 0-23; NaN where missing.
    """
    days = np.floor(seconds / _DAY_SECONDS)
    hour = np.floor((seconds - days * _DAY_SECONDS) / _HOUR_SECONDS)
    shifted = days + 719468.0
    era = np.floor(shifted / 146097.0)
    day_of_era = shifted - era * 146097.0
    leaps = np.floor(day_of_era / 1460.0) - np.floor(day_of_era / 36524.0) + np.floor(day_of_era / 146096.0)
    year_of_era = np.floor((day_of_era - leaps) / 365.0)
    quarters = np.floor(year_of_era / 4.0) - np.floor(year_of_era / 100.0)
    day_of_year = day_of_era - (year_of_era * 365.0 + quarters)
    month_from_march = np.floor((day_of_year * 5.0 + 2.0) / 153.0)
    day = day_of_year - np.floor((month_from_march * 153.0 + 2.0) / 5.0) + 1.0
    wraps = np.floor(month_from_march / 10.0)
    month = month_from_march + 3.0 - wraps * 12.0
    year = year_of_era + era * 400.0 + wraps
    monday_based = days + 3.0
    weekday = monday_based - np.floor(monday_based / 7.0) * 7.0
    return np.stack([days, year, month, day, weekday, hour], axis=-1)


class DateParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Dates as numbers that a model can split on: trend, season, weekday and hour.

    Input: float64 ``[rows, columns]`` of seconds since 1970-01-01 UTC with NaN for missing. Output: float64
    ``[rows, 6 * columns]``, for each column the ``PARTS``, NaN kept. Holds no learned state besides names.
    """

    def fit(self, X: ArrayLike, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's interface
        """Note the number of columns and their names, if they have any."""
        self.n_features_in_ = np.shape(X)[1]
        columns = getattr(X, "columns", None)
        if columns is not None:
            self.feature_names_in_ = np.asarray(columns, dtype=object)
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803 - scikit-learn's interface
        """The parts of every moment; see the class.

        Raises:
            ValueError: the number of columns differs from that in ``fit``.
        """
        check_is_fitted(self, "n_features_in_")
        seconds = np.asarray(X, dtype=np.float64)
        if seconds.ndim != 2 or seconds.shape[1] != self.n_features_in_:
            raise ValueError(
                f"DateParts was fitted on {self.n_features_in_} columns, got shape {seconds.shape}."
            )
        return civil_parts(seconds).reshape(seconds.shape[0], -1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names such as ``sold_at_year``, in the order of the output."""
        names = input_features
        if names is None:
            names = getattr(self, "feature_names_in_", [f"x{place}" for place in range(self.n_features_in_)])
        return np.asarray([f"{name}_{part}" for name in names for part in PARTS], dtype=object)

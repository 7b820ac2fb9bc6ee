"""What may become known of one row, and what a training says that it spent."""

from typing import NamedTuple

from servable.errors import DependencyMissing, SettingInvalid


class Budget(NamedTuple):
    """How much may become known of one row.

    Attributes:
        epsilon: above 0; 1 is strong, 10 is weak.
        delta: the chance that it does not hold; None for one in ten times the rows, or for 0 where a model
            needs none.
    """

    epsilon: float
    delta: float | None = None

    def check(self) -> None:
        """Whether it can be kept to.

        Raises:
            SettingInvalid: it cannot.
        """
        if not 0 < self.epsilon < float("inf"):
            raise SettingInvalid(f"The privacy budget epsilon must be above 0, not {self.epsilon}.")
        if self.delta is not None and not 0 < self.delta < 1:
            raise SettingInvalid(f"The privacy budget delta must be between 0 and 1, not {self.delta}.")

    def delta_of(self, rows: int) -> float:
        """The delta that was told, or the usual one for so many rows."""
        return self.delta if self.delta is not None else 1 / (10 * rows)


def need_opacus() -> None:
    """Make sure that Opacus is there.

    Raises:
        DependencyMissing: it is not.
    """
    try:
        import opacus  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as missing:
        raise DependencyMissing(
            f"Differential privacy needs {missing.name}, which is not installed; run: pip install "
            "'servable[train,dp]'"
        ) from missing

"""Whether lossy forms are tried, and how their loss is measured: limit, truth and metrics together."""

from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from servable.artifact.signature import Signature
from servable.errors import DataError
from servable.optimization.lossy import EXACT_ONLY, Lossy, NotTried, Places, WithinLoss, split
from servable.tensors import Arrays
from servable.workflows.sources import need_extra

if TYPE_CHECKING:
    from servable.artifact.loss import Loss, MaxLoss

#: Rows of held-out data with their true answers: class index int64 or value float64 ``[rows]``.
Truth = NDArray[Any]


class Allowance(Protocol):
    """What lossy forms are allowed to cost."""

    #: Whether rows without true answers are of no use.
    needs_truth: bool

    def check(self, signature: Signature) -> None:
        """Refuse early what can never be measured for a model.

        Raises:
            SettingInvalid: the metric is not measured for it.
        """
        ...

    def lossy(self, signature: Signature, truth: Truth | None) -> Lossy:
        """What is tried beyond the equal forms.

        Args:
            signature: of the model.
            truth: the true answers to the sample's first rows, or None.

        Raises:
            SettingInvalid: the metric is not measured for this model.
            DataError: the truth is needed and not there.
        """
        ...


class NothingLossy:
    """Forms that are equal, and no others."""

    needs_truth = False

    def check(self, signature: Signature) -> None:
        """Nothing is measured, so nothing can be wrong."""

    def lossy(self, signature: Signature, truth: Truth | None) -> Lossy:
        """Nothing is tried."""
        return EXACT_ONLY


class AtMost:
    """Lossy forms up to a limit."""

    needs_truth = True

    def __init__(self, limit: "MaxLoss") -> None:
        self._limit = limit

    def check(self, signature: Signature) -> None:
        """See the protocol."""
        from servable.training import loss

        loss.check(self._limit, signature)

    def lossy(self, signature: Signature, truth: Truth | None) -> Lossy:
        """See the protocol."""
        from servable.training import loss

        self.check(signature)
        if truth is None:
            raise DataError(
                f"A loss of {self._limit.metric} is measured on rows whose true answers are known, and there "
                "are none; give rows with their answers: --sample FILE --target COLUMN (a table, or a CSV of "
                "paths), or a folder with one folder for each class."
            )
        measured = len(split(len(truth)).measured)
        if measured < loss.FEWEST_ROWS:
            return NotTried(
                f"{measured} rows with their true answers are too few to tell a loss, {loss.FEWEST_ROWS} are "
                "needed besides those that int8 is calibrated on"
            )

        def judge(places: Places, trained: Arrays, variant: Arrays) -> "Loss":
            return loss.gate(self._limit, truth[places], trained, variant, classes=len(signature.classes))

        return WithinLoss(judge, len(truth))


def allowance(max_loss: "MaxLoss | str | None") -> Allowance:
    """What ``max_loss`` of a verb means.

    Args:
        max_loss: the limit, or a text such as ``accuracy=0.005``; None for equal forms only.

    Raises:
        SettingInvalid: it is no limit.
        DependencyMissing: the extra ``train``, which measures, is not installed.
    """
    if max_loss is None:
        return NothingLossy()
    need_extra()
    from servable.training.loss import parse_max_loss

    return AtMost(parse_max_loss(max_loss) if isinstance(max_loss, str) else max_loss)

"""What a batch costs: run time = fixed + per row * rows, learned while it runs. Pure.

The line is fitted to weighted sums of what was observed. Old observations fade, because a machine's
speed changes; an observation far above what was expected counts only up to a limit, because a garbage
collection or a noisy neighbour says nothing about the model; several such in a row are a lasting
change, which is followed at once. Errors count relative to the run time, so that a few large
batches do not drown what a single row costs.
"""

from servable.errors import SettingInvalid

#: What is left of an observation's weight after each later one: about fifty of them count.
_FADE = 0.98
#: How much of a surprise is expected before anything is known, relative to the run time.
_FIRST_SPREAD = 0.5
#: An observation counts up to this many spreads above what was expected.
_SPREADS = 4.0
#: How fast the spread follows; and the least it can be, so that a quiet machine is not over-strict.
_FOLLOW = 0.1
_LEAST_SPREAD = 0.02
#: Sizes whose variance is below this share of the squared mean tell nothing about the slope.
_TELLING = 0.01
#: The fixed share of a batch as long as nothing tells it, and the least that is assumed where sizes
#: do not: more than the share that ``batch_policy`` wishes for, so that a larger batch is tried.
_UNKNOWN = 0.5
_LEAST_SHARE = 0.1
#: So many runs one after another, each longer than expected by this share, are a lasting change.
_STREAK = 8
_LASTING = 0.5
#: A run counts as if it had taken at least this share of what was expected.
_MOST_TELLING = 0.25
#: From this observation on the line is fitted at every fourth only.
_EARLY = 16
#: So many observations make an estimate that somebody may be refused upon.
_FOUNDED = 8
#: Shorter than any run; keeps weights finite.
_SHORTEST_S = 1e-9


class CostCurve:
    """The cost of a batch by its rows. A plain value: no clock, no locks; belongs to one task.

    Where only one size was ever seen the fixed share cannot be told from the rest; half of it is
    assumed, or what it was when different sizes were last seen. It is then never less than a tenth,
    which makes a batch of twice the size worth a try: whoever chooses sizes by the curve would otherwise
    keep for ever to a small one that a few unlucky runs had made look best. Neither part is ever negative.

    Attributes:
        fixed_s: seconds that a batch costs whatever its size; 0 before anything was observed.
        row_s: seconds for each row; 0 before anything was observed.
        samples: how many runs were observed.
        largest: the most rows that were observed in one run.
        fits: how often the line was fitted; changes when ``fixed_s`` and ``row_s`` may have.
    """

    __slots__ = (
        "_least",
        "_spread",
        "_streak",
        "_w",
        "_wx",
        "_wxx",
        "_wxy",
        "_wy",
        "fits",
        "fixed_s",
        "largest",
        "row_s",
        "samples",
    )

    def __init__(self) -> None:
        self.fixed_s = 0.0
        self.row_s = 0.0
        self.samples = 0
        self.largest = 0
        self.fits = 0
        self._spread = _FIRST_SPREAD
        self._streak = 0
        self._least = 0.0
        self._w = self._wx = self._wy = self._wxx = self._wxy = 0.0

    @property
    def founded(self) -> bool:
        """Whether enough was seen that somebody may be refused upon it."""
        return self.samples >= _FOUNDED

    def seconds(self, rows: float) -> float:
        """The expected run time of a batch of so many rows; 0 before anything was observed."""
        return self.fixed_s + self.row_s * rows

    def observe(self, rows: int, seconds: float) -> None:
        """A batch ran.

        Args:
            rows: how many, at least 1.
            seconds: for how long, 0 or more; what is not is a mistake of the caller's clock and is left out.

        Raises:
            SettingInvalid: a batch without rows; the caller is wrong.
        """
        if rows < 1:
            raise SettingInvalid("A batch has at least one row.")
        if not seconds >= 0.0:
            return
        samples = self.samples = self.samples + 1
        expected = self.fixed_s + self.row_s * rows
        if samples > 1:
            surprise = seconds / expected - 1.0
            spread = self._spread
            most = _SPREADS * spread
            if surprise <= _LASTING:
                self._streak = 0
            elif self._is_slower(surprise):
                return
            if surprise > most:
                seconds = expected * (1.0 + most)
                surprise = most
            spread += _FOLLOW * ((surprise if surprise >= 0.0 else -surprise) - spread)
            self._spread = spread if spread > _LEAST_SPREAD else _LEAST_SPREAD
        # Noise only ever adds, so a run shorter than expected tells more; but not without bounds.
        base = expected
        if seconds < expected or samples == 1:
            least = _MOST_TELLING * expected
            base = seconds if seconds > least else least
        weight = 1.0 / (base * base) if base > _SHORTEST_S else 1.0 / (_SHORTEST_S * _SHORTEST_S)
        weighted = weight * rows
        self._w = _FADE * self._w + weight
        self._wx = _FADE * self._wx + weighted
        self._wy = _FADE * self._wy + weight * seconds
        self._wxx = _FADE * self._wxx + weighted * rows
        self._wxy = _FADE * self._wxy + weighted * seconds
        if rows > self.largest:
            self.largest = rows
        if samples < _EARLY or samples & 3 == 0:
            self._fit()

    def _is_slower(self, surprise: float) -> bool:
        """Count runs that are all much longer; after a row of them the machine has become slower for good.

        Then what was seen before is taken as if it had been seen at the new speed, by the least of the
        surprises, so that the line keeps its slope and its level is right at once.
        """
        self._streak += 1
        self._least = surprise if self._streak == 1 else min(self._least, surprise)
        if self._streak < _STREAK:
            return False
        self._streak = 0
        factor = 1.0 + self._least
        weight = 1.0 / (factor * factor)
        self._w *= weight
        self._wx *= weight
        self._wxx *= weight
        self._wy *= weight * factor
        self._wxy *= weight * factor
        self._fit()
        return True

    def _fit(self) -> None:
        """Draw the line anew."""
        self.fits += 1
        w = self._w
        mean_rows, mean_s = self._wx / w, self._wy / w
        variance = self._wxx / w - mean_rows * mean_rows
        if variance > _TELLING * mean_rows * mean_rows:
            row_s = (self._wxy / w - mean_rows * mean_s) / variance
            fixed_s = mean_s - row_s * mean_rows
            if row_s < 0.0:
                row_s, fixed_s = 0.0, mean_s
            elif fixed_s < 0.0:
                row_s, fixed_s = self._wxy / self._wxx, 0.0
        else:
            before = self.fixed_s + self.row_s * mean_rows
            share = self.fixed_s / before if before > _SHORTEST_S else _UNKNOWN
            share = max(share, _LEAST_SHARE)
            fixed_s, row_s = share * mean_s, (1.0 - share) * mean_s / mean_rows
        if fixed_s + row_s < _SHORTEST_S:
            fixed_s = _SHORTEST_S
        self.fixed_s, self.row_s = fixed_s, row_s

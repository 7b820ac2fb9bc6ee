"""What a batch costs: run time = fixed + per row * rows, learned while it runs. Pure.

The line is fitted to weighted sums of what was observed. Old observations fade, because a machine's
speed changes; an observation far above what was expected counts only up to a limit, because a garbage
collection or a noisy neighbour says nothing about the model; a lasting change widens that limit and is
followed within some dozens of observations. Errors count relative to the run time, so that a few large
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
#: From this observation on the line is fitted at every fourth only.
_EARLY = 16
#: So many observations make an estimate that somebody may be refused upon.
_FOUNDED = 8
#: Shorter than any run; keeps weights finite.
_SHORTEST_S = 1e-9


class CostCurve:
    """The cost of a batch by its rows. A plain value: no clock, no locks; belongs to one task.

    Where only one size was ever seen the fixed share cannot be told from the rest; half of it is
    assumed, or what it was when different sizes were last seen. Neither part is ever negative.

    Attributes:
        fixed_s: seconds that a batch costs whatever its size; 0 before anything was observed.
        row_s: seconds for each row; 0 before anything was observed.
        samples: how many runs were observed.
        largest: the most rows that were observed in one run.
        fits: how often the line was fitted; changes when ``fixed_s`` and ``row_s`` may have.
    """

    __slots__ = (
        "_spread",
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
            if surprise > most:
                seconds = expected * (1.0 + most)
                surprise = most
            spread += _FOLLOW * ((surprise if surprise >= 0.0 else -surprise) - spread)
            self._spread = spread if spread > _LEAST_SPREAD else _LEAST_SPREAD
        larger = seconds if seconds > expected else expected
        weight = 1.0 / (larger * larger) if larger > _SHORTEST_S else 1.0 / (_SHORTEST_S * _SHORTEST_S)
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
            share = self.fixed_s / before if before > _SHORTEST_S else 0.5
            fixed_s, row_s = share * mean_s, (1.0 - share) * mean_s / mean_rows
        if fixed_s + row_s < _SHORTEST_S:
            fixed_s = _SHORTEST_S
        self.fixed_s, self.row_s = fixed_s, row_s

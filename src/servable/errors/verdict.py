"""A measurement said no."""

from servable.errors.root import ServableError


class VerdictError(ServableError, code="refused"):
    """A measurement said no."""


class GateFailed(VerdictError, code="gate_failed"):
    """A metric is below what was asked for."""


class ParityFailed(VerdictError, code="parity_failed"):
    """A compiled model does not answer like the trained one."""


class SelfCheckFailed(VerdictError, code="self_check_failed"):
    """A loaded version answers its recorded example otherwise than when its package was made."""

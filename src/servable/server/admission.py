"""Who may ask now: the door that every request passes when its headers are there, before its body is read.

The host name first, then who asks, then how much: what is refused here costs nobody the reading of a body.
"""

from collections.abc import Callable

from servable.errors import Unauthenticated
from servable.server import checks as check
from servable.server.allowances import Both, Ticket
from servable.server.authentication import Authentication
from servable.server.http import HttpRequest
from servable.server.limits import Limiter
from servable.settings import ServerSettings


class Admission:
    """Lets requests in. Belongs to one event loop.

    Args:
        settings: host names.
        authentication: knows callers.
        limiter: knows how much they may ask.

    Attributes:
        limiter: as given.
    """

    def __init__(self, settings: ServerSettings, authentication: Authentication, limiter: Limiter) -> None:
        self._checks = check.checks(settings)
        self._authentication = authentication
        self.limiter = limiter

    def admit(self, request: HttpRequest, is_sign: Callable[[bytes], bool]) -> None:
        """Let a request in.

        Args:
            request: its headers, and the address of its client; is told who asks, and given its ticket.
            is_sign: whether an address is a sign of life, which is answered without a key and never limited.

        Raises:
            ServableError: it is not let in.
        """
        for passes in self._checks:
            passes(request)
        sign = is_sign(request.target)
        try:
            request.caller = self._authentication.present.caller(request.headers, request.peer)
        except Unauthenticated as error:
            # Whoever asks for a sign of life is nobody in particular.
            if sign:
                return
            if error.shown:
                self.limiter.failed(request.address)
            raise
        if not sign:
            request.ticket = self.limiter.enter(request.caller, request.address)

    def message(self, request: HttpRequest) -> Ticket:
        """Let one more message of a stream in.

        Args:
            request: that began the stream.

        Raises:
            LimitReached: there are too many.
        """
        ticket = self.limiter.enter(request.caller, request.address, within=True)
        return Both(request.ticket, ticket) if request.ticket.waits else ticket

"""``POST /models/NAME/feedback``: what turned out about answers; answered when it is on the disk."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.errors import DependencyMissing, NotOffered
from servable.monitoring.feedback import JSON, FeedbackRow, read_feedback
from servable.monitoring.labels import Outcomes
from servable.protocols.base import media_type_of
from servable.protocols.codecs import canonical
from servable.server.desk import Desk, caller_of, json_response, request_id_of
from servable.tensors import Body

#: Bodies of at most so many bytes are read in the event loop: that takes less than to ask a thread.
_SMALL = 16 * 1024


class _Feedback:
    """The handler."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def take(self, request: Request) -> Response:
        """Check and keep the rows of a body."""
        reference = request.path_params["name"]
        model = self._desk.find(caller_of(request), reference, "feedback").model
        outcomes = Outcomes(await self._desk.signature(caller_of(request), reference))
        plain = media_type_of(dict(request.scope["headers"]))
        form = canonical(plain) if plain else JSON
        body = await self._desk.body_of(request)
        try:
            rows = await self._read(body, form, outcomes)
            await self._desk.host.recorder.keep(model, rows)
            self._desk.audit.count("feedback", model, len(rows))
        except DependencyMissing as missing:
            raise NotOffered(
                "This server keeps no feedback, because pyarrow is not installed there."
            ) from missing
        return json_response({"model": model, "accepted": len(rows), "request_id": request_id_of(request)})

    async def _read(self, body: Body, form: str, outcomes: Outcomes) -> list[FeedbackRow]:
        most = self._desk.settings.max_rows
        if len(body) <= _SMALL and form == JSON:
            return read_feedback(body, form, outcomes, most)
        return await asyncio.to_thread(read_feedback, body, form, outcomes, most)


def routes(desk: Desk) -> list[Route]:
    """The address of feedback."""
    return [Route("/models/{name}/feedback", _Feedback(desk).take, methods=["POST"])]

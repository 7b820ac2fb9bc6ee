"""The one way of a request: decode, run, encode, count. Knows no wire format and no HTTP."""

import time

from servable.errors import ModelFailed, ServableError
from servable.logs import fields, logger
from servable.monitoring.metrics import OK
from servable.serving.live import Live
from servable.tensors import Response

_log = logger("serving")
_now = time.perf_counter


async def answer(live: Live, body: bytes, request_id: str) -> bytes:
    """Answer one request.

    Args:
        live: the model; it stays open until this returns.
        body: the whole body.
        request_id: kept in the answer and in the log.

    Returns:
        The answer in the format of the model's codec.

    Raises:
        InputError: the body does not fit.
        ModelFailed: the model raised, or answered with something that the signature does not have.
    """
    started = _now()
    live.enter()
    rows = 0
    code = "internal_error"
    try:
        request = live.codec.decode(body, request_id)
        arrays = await live.executor.run(request.arrays)
        response = Response(arrays, request.rows, request_id, live.model, live.version, request.single)
        try:
            encoded = live.codec.encode(response)
        except (IndexError, ValueError) as error:
            raise ModelFailed(
                f"{live.model}:{live.version} gave an answer that is none of its classes."
            ) from error
        code = OK
        rows = request.rows
        return encoded
    except ServableError as error:
        code = error.code
        if isinstance(error, ModelFailed):
            _log.error(
                "the model failed",
                extra=fields(model=live.model, version=live.version, request_id=request_id),
            )
        raise
    finally:
        live.leave()
        live.meter.count(code, rows, _now() - started)

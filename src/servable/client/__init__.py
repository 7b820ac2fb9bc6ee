"""Talk to a Servable server: ``Client`` for plain code, ``AsyncClient`` for asyncio.

The two are thin shells. What is sent and how an answer is read is in ``wire``, when to try again is in
``retry``; both are pure.
"""

from servable.client.aio import AsyncClient
from servable.client.results import Piece, Prediction, Predictions, ServedModel
from servable.client.sync import Client

__all__ = ["AsyncClient", "Client", "Piece", "Prediction", "Predictions", "ServedModel"]

"""A model inside a Starlette application that has a lifespan of its own.

Run it with ``MODEL=model.onnx uvicorn starlette_app:app``, then::

    curl localhost:8000/ml/predict -H 'content-type: application/json' -d '{"input": [5.1, 3.5, 1.4, 0.2]}'
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import servable

# The path of a model file, the name of a model in the registry, or nothing for everything deployed.
models = servable.asgi(*filter(None, [os.environ.get("MODEL")]))


async def home(request: Request) -> JSONResponse:
    return JSONResponse({"application": "shop"})


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    # Whatever the application opens itself goes around or into this block.
    async with models.lifespan():
        yield


app = Starlette(routes=[Route("/", home), Mount("/ml", models)], lifespan=lifespan)

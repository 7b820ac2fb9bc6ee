"""A model inside a FastAPI application.

Run it with ``MODEL=model.onnx uvicorn fastapi_app:app``, then::

    curl localhost:8000/ml/predict -H 'content-type: application/json' -d '{"input": [5.1, 3.5, 1.4, 0.2]}'

The application's own pages stay where they were; everything of the model is below ``/ml``, with a page to
try it at ``/ml/docs``.
"""

import os

from fastapi import FastAPI

import servable

# The path of a model file, the name of a model in the registry, or nothing for everything deployed.
models = servable.asgi(*filter(None, [os.environ.get("MODEL")]))

# The lifespan loads the model before the first request and closes it after the last one.
app = FastAPI(lifespan=models.lifespan)
app.mount("/ml", models)


@app.get("/")
async def home() -> dict[str, str]:
    return {"application": "shop"}

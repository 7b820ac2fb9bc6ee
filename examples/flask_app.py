"""A model inside a Flask application.

Run it with ``MODEL=model.onnx gunicorn --threads 8 flask_app:app`` (or ``flask --app flask_app run``), then::

    curl localhost:8000/ml/predict -H 'content-type: application/json' -d '{"input": [5.1, 3.5, 1.4, 0.2]}'

Each process of the server loads the model with its first request.
"""

import os

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import servable

# The path of a model file, the name of a model in the registry, or nothing for everything deployed.
models = servable.wsgi(*filter(None, [os.environ.get("MODEL")]))

app = Flask(__name__)


@app.get("/")
def home() -> dict[str, str]:
    return {"application": "shop"}


app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/ml": models})  # type: ignore[method-assign]

"""A model inside a Django application.

In a project, the two lines that mount it stand in ``wsgi.py``; here the project is this one file. Run it with
``MODEL=model.onnx gunicorn --threads 8 django_app:application``, then::

    curl localhost:8000/ml/predict -H 'content-type: application/json' -d '{"input": [5.1, 3.5, 1.4, 0.2]}'

Django's own middleware, its authentication for instance, does not stand before what is mounted beside it.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

import servable

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"], SECRET_KEY="only-an-example"
)


def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"application": "shop"})


urlpatterns = [path("", home)]

# The path of a model file, the name of a model in the registry, or nothing for everything deployed.
models = servable.wsgi(*filter(None, [os.environ.get("MODEL")]))
site = get_wsgi_application()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Addresses below ``/ml`` go to the model, all others to Django."""
    where = environ.get("PATH_INFO", "")
    if where == "/ml" or where.startswith("/ml/"):
        inside = {"SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + "/ml", "PATH_INFO": where[len("/ml") :]}
        return models({**environ, **inside}, start_response)
    return site(environ, start_response)

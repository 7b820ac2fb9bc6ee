"""Servable turns a trained model into a production API and keeps it fast, safe and correct.

Everything public is here and is imported when it is first used, so that ``import servable`` is quick::

    import servable

    outcome = servable.train("customers.csv", target="churned", name="churn")
    servable.deploy("churn")
    server = servable.serve(background=True)
    with servable.Client(server.url) as client:
        print(client.predict("churn", {"age": 42, "plan": "basic"}).prediction)
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servable.artifact.loss import MaxLoss
    from servable.client import AsyncClient, Client, Piece, Prediction, Predictions
    from servable.engines.embedded import asgi
    from servable.engines.local import LocalServer, serve
    from servable.engines.wsgi import wsgi
    from servable.errors import ServableError
    from servable.frameworks.python_model import Model, model
    from servable.updating.update import update
    from servable.workflows.add import add
    from servable.workflows.audit import audit_records, audit_verify
    from servable.workflows.bill import bill_of_materials
    from servable.workflows.deploy import deploy, rollback, undeploy
    from servable.workflows.drift import drift
    from servable.workflows.evaluate import evaluate
    from servable.workflows.feedback import feedback
    from servable.workflows.generate import generate_client
    from servable.workflows.inspecting import inspect
    from servable.workflows.keys import create_key, keys, revoke_key, rotate_key
    from servable.workflows.look import describe, models, status
    from servable.workflows.optimize import optimize
    from servable.workflows.privacy import erase_subject, export_subject
    from servable.workflows.quality import quality
    from servable.workflows.rollouts import change_rollout, show_rollout
    from servable.workflows.score import score
    from servable.workflows.select import select
    from servable.workflows.signing import sign
    from servable.workflows.traffic import traffic
    from servable.workflows.train import train
    from servable.workflows.watch import watch

__version__ = "0.1.0"

#: By these libraries tell nobody about models and machines. They are read when a library is imported, and
#: processes that are started hand them on; whoever has set one of them already has decided.
_NO_TELEMETRY = {
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "true",
}
for _name, _value in _NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)

__all__ = [
    "AsyncClient",
    "Client",
    "LocalServer",
    "MaxLoss",
    "Model",
    "Piece",
    "Prediction",
    "Predictions",
    "ServableError",
    "add",
    "asgi",
    "audit_records",
    "audit_verify",
    "bill_of_materials",
    "change_rollout",
    "create_key",
    "deploy",
    "describe",
    "drift",
    "erase_subject",
    "evaluate",
    "export_subject",
    "feedback",
    "generate_client",
    "inspect",
    "keys",
    "model",
    "models",
    "optimize",
    "quality",
    "revoke_key",
    "rollback",
    "rotate_key",
    "score",
    "select",
    "serve",
    "show_rollout",
    "sign",
    "status",
    "traffic",
    "train",
    "undeploy",
    "update",
    "watch",
    "wsgi",
]

_HOMES = {
    "AsyncClient": "servable.client",
    "Client": "servable.client",
    "LocalServer": "servable.engines.local",
    "MaxLoss": "servable.artifact.loss",
    "Model": "servable.frameworks.python_model",
    "Piece": "servable.client",
    "Prediction": "servable.client",
    "Predictions": "servable.client",
    "ServableError": "servable.errors",
    "add": "servable.workflows.add",
    "asgi": "servable.engines.embedded",
    "audit_records": "servable.workflows.audit",
    "audit_verify": "servable.workflows.audit",
    "bill_of_materials": "servable.workflows.bill",
    "change_rollout": "servable.workflows.rollouts",
    "create_key": "servable.workflows.keys",
    "deploy": "servable.workflows.deploy",
    "describe": "servable.workflows.look",
    "drift": "servable.workflows.drift",
    "erase_subject": "servable.workflows.privacy",
    "evaluate": "servable.workflows.evaluate",
    "export_subject": "servable.workflows.privacy",
    "feedback": "servable.workflows.feedback",
    "generate_client": "servable.workflows.generate",
    "inspect": "servable.workflows.inspecting",
    "keys": "servable.workflows.keys",
    "model": "servable.frameworks.python_model",
    "models": "servable.workflows.look",
    "optimize": "servable.workflows.optimize",
    "quality": "servable.workflows.quality",
    "revoke_key": "servable.workflows.keys",
    "rollback": "servable.workflows.deploy",
    "rotate_key": "servable.workflows.keys",
    "score": "servable.workflows.score",
    "select": "servable.workflows.select",
    "serve": "servable.engines.local",
    "show_rollout": "servable.workflows.rollouts",
    "sign": "servable.workflows.signing",
    "status": "servable.workflows.look",
    "traffic": "servable.workflows.traffic",
    "train": "servable.workflows.train",
    "undeploy": "servable.workflows.deploy",
    "update": "servable.updating.update",
    "watch": "servable.workflows.watch",
    "wsgi": "servable.engines.wsgi",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'servable' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, for completion in a shell."""
    return sorted([*__all__, "__version__"])

"""FastAPI under two uvicorn workers: as documented, and with a handler tuned by hand."""

from pathlib import Path

from bench.peers.base import WORKERS, Case, Peer, input_wire, prepared
from bench.process import Launch

_DOCUMENTED = """
import numpy as np
from fastapi import FastAPI, Request
from pydantic import BaseModel
from served import binary, load, row

app = FastAPI()
predict = load()


class Question(BaseModel):
    input: list[float]


class Answer(BaseModel):
    prediction: float


@app.post("/predict")
def answer(question: Question) -> Answer:
    return Answer(prediction=float(predict(row(question.input)[None])[0]))
"""

# An async handler is faster than a thread for models as short as these, and msgspec than pydantic.
_TUNED = """
import msgspec
import numpy as np
from fastapi import FastAPI, Request, Response
from served import binary, load, row

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
predict = load()


class Question(msgspec.Struct):
    input: list[float]


decode = msgspec.json.Decoder(Question).decode
encode = msgspec.json.Encoder().encode


@app.post("/predict")
async def answer(request: Request) -> Response:
    body = await request.body()
    raw = request.headers["content-type"] == "application/octet-stream"
    given = binary(body) if raw else row(decode(body).input)
    found = predict(given[None])[0]
    return Response(encode({"prediction": found.tolist()}), media_type="application/json")
"""


def _launch(source: str, case: Case, folder: Path) -> Launch:
    return prepared(
        case,
        folder,
        {"app.py": source},
        environment="fastapi",
        wire=input_wire(case),
        command=lambda programs, port: [
            f"{programs}uvicorn",
            "app:app",
            "--port",
            str(port),
            "--workers",
            str(WORKERS),
            "--loop",
            "uvloop",
            "--http",
            "httptools",
            "--no-access-log",
            "--log-level",
            "warning",
        ],
    )


PEERS = (
    Peer(
        "FastAPI, 2 workers",
        lambda case, folder: _launch(_DOCUMENTED, case, folder),
        model_server=False,
        only=("iris", "forest-trained", "forest-onnx"),
    ),
    Peer("FastAPI, tuned, 2 workers", lambda case, folder: _launch(_TUNED, case, folder), model_server=False),
)

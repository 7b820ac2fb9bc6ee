"""What no server can pass: a fixed answer from uvicorn and from nginx."""

import json
import os
import shutil
from pathlib import Path

from bench.envs import Unavailable
from bench.peers.base import Case, Peer, input_wire, prepared
from bench.process import Launch, free_ports, write

_UVICORN = """
ANSWER = {answer!r}
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({{"type": "lifespan.startup.complete"}})
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    while (await receive())["more_body"]:
        pass
    await send({{"type": "http.response.start", "status": 200, "headers": HEADERS}})
    await send({{"type": "http.response.body", "body": ANSWER}})
"""

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""


def _answer(case: Case) -> str:
    return json.dumps({"prediction": case.model.expected})


def _uvicorn(case: Case, folder: Path) -> Launch:
    return prepared(
        case,
        folder,
        {"fixed.py": _UVICORN.format(answer=_answer(case).encode())},
        environment="fastapi",
        wire=input_wire(case),
        command=lambda programs, port: [
            f"{programs}uvicorn",
            "fixed:app",
            "--port",
            str(port),
            "--loop",
            "uvloop",
            "--http",
            "httptools",
            "--no-access-log",
        ],
    )


def _nginx(case: Case, folder: Path) -> Launch:
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise Unavailable("nginx is not installed")
    (port,) = free_ports(1)
    write(folder, {"nginx.conf": _NGINX.format(folder=folder, port=port, answer=_answer(case))})
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    return Launch(command, port, input_wire(case), case.model.expected, folder)


PEERS = (
    Peer("uvicorn, fixed answer", _uvicorn, model_server=False, only=("iris",)),
    Peer("nginx, fixed answer", _nginx, model_server=False, python=False, only=("iris",)),
)

"""The peers' environments: one each under ``bench/out/envs``, pinned, wheels only, made when missing.

What is asked for stands in ``PINNED``; every other package of an environment is held by
``bench/locks/NAME.txt``. Libraries that made the models have the same versions everywhere, so that the
same fitted object is read by all.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
_MODELS = ("scikit-learn==1.9.1", "numpy==2.4.6", "onnxruntime==1.32.0")
#: The newest releases that install from wheels for Python 3.11.
PINNED = {
    "flask": ("flask==3.1.3", "gunicorn==27.0.1", *_MODELS),
    "fastapi": (
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
        "uvloop==0.23.0",
        "httptools==0.9.0",
        "orjson==3.13.0",
        "msgspec==0.22.0",
        *_MODELS,
    ),
    "litserve": ("litserve==0.2.19", "uvloop==0.23.0", "httptools==0.9.0", "pyzmq", *_MODELS),
    "bentoml": ("bentoml==1.4.39", "uvloop==0.23.0", "httptools==0.9.0", *_MODELS),
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop==0.21.0", *_MODELS),
    "kserve": ("kserve==0.21.0", "uvloop==0.23.0", "httptools==0.9.0", *_MODELS),
    "ray": ("ray[serve]==2.60.0", "uvloop==0.23.0", "httptools==0.9.0", *_MODELS),
    "mlflow": ("mlflow==3.17.2", "uvloop==0.23.0", "httptools==0.9.0", *_MODELS),
    "torchserve": (
        "torchserve==0.12.0",
        "torch-model-archiver==0.12.0",
        "torch==2.13.0",
        "pyyaml==6.0.3",
        *_MODELS,
    ),
    # Its wheels of this year want numpy 1.
    "triton": ("nvidia-pytriton==0.7.0", "scikit-learn==1.9.1", "numpy==1.26.4", "onnxruntime==1.32.0"),
}


class Unavailable(Exception):
    """A peer cannot be had on this machine, and why."""


def python(name: str) -> Path:
    """The interpreter of a peer's environment.

    Raises:
        Unavailable: it cannot be made; the last line of what the installer said.
    """
    folder = OUT / "envs" / name
    interpreter = folder / "bin" / "python"
    wanted = "\n".join(PINNED[name])
    ready = folder / "ready"
    if ready.is_file() and ready.read_text() == wanted:
        return interpreter
    print(f"making the environment of {name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    lock = HERE / "locks" / f"{name}.txt"
    held = ["--constraints", str(lock)] if lock.is_file() else []
    target = ["--quiet", "--python", str(interpreter)]
    _uv("pip", "install", *target, "--only-binary", ":all:", *held, *PINNED[name])
    if not held:
        lock.parent.mkdir(exist_ok=True)
        # A local version is a build of this machine; others have the public one of the same number.
        lines = [line.split("+")[0] for line in _uv("pip", "freeze", *target).splitlines()]
        lock.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ready.write_text(wanted)
    return interpreter


def _uv(*arguments: str) -> str:
    found = Path(sys.executable).with_name("uv")
    uv = str(found) if found.is_file() else shutil.which("uv")
    if uv is None:
        raise Unavailable("uv is not installed")
    surroundings = dict(os.environ)
    # What pip was told about wheels on this machine holds here too.
    if local := surroundings.get("PIP_FIND_LINKS"):
        surroundings.setdefault("UV_FIND_LINKS", local)
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, env=surroundings)
    if done.returncode:
        raise Unavailable(f"not installed: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout

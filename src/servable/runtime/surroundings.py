"""What surrounds a model process: the variables that it gets, and a folder of its own.

A server's environment holds addresses with passwords, keys of clouds and tokens. A model process gets what
libraries that compute read, and what the setting ``model_environment`` names.
"""

import fcntl
import functools
import os
import site
import stat
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

_NAMES = frozenset(
    {
        "CONDA_PREFIX", "DO_NOT_TRACK", "GLIBC_TUNABLES", "HF_HUB_DISABLE_TELEMETRY", "LANG", "LANGUAGE",
        "LD_LIBRARY_PATH", "LD_PRELOAD", "MLFLOW_DISABLE_TELEMETRY", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE",
        "TZ", "TZDIR", "VIRTUAL_ENV",
    }
)  # fmt: skip
_BEGINNINGS = (
    "ACL_", "BLIS_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "GOMP_", "GOTO_", "KERAS_", "KMP_", "LC_",
    "MALLOC_", "MKL_", "NCCL_", "NUMBA_", "NUMEXPR_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "OPENVINO_",
    "ORT_", "PYTHON", "PYTORCH_", "TBB_", "TF_CPP_", "TF_CUDNN_", "TF_DETERMINISTIC_", "TF_DISABLE_",
    "TF_ENABLE_", "TF_FORCE_", "TF_GPU_", "TF_NUM_", "TF_USE_", "TF_XLA_", "TOKENIZERS_", "TORCH_", "VECLIB_",
    "XLA_",
)  # fmt: skip
#: Words in names of variables that hold secrets.
_SECRET = frozenset(
    {
        "AUTH", "CREDENTIAL", "CREDENTIALS", "KEY", "KEYS", "PASS", "PASSWD", "PASSWORD", "SECRET", "SECRETS",
        "TOKEN", "TOKENS",
    }
)  # fmt: skip
#: As whom a process takes itself; without it libraries look for the name of the account.
_ACCOUNT = "model"
_NOWHERE = "/nonexistent"
_PREFIX = "servable-process-"
#: Seconds for which a folder that nobody holds is left alone, because its maker may be about to hold it.
_YOUNG_S = 60.0


def is_passed(name: str, more: Sequence[str] = ()) -> bool:
    """Whether a model process gets a variable of this name; pure.

    Args:
        name: of the variable.
        more: names that somebody declared.
    """
    if name in _NAMES or name in more:
        return True
    return name.startswith(_BEGINNINGS) and not _SECRET.intersection(name.upper().split("_"))


def reduced(environment: Mapping[str, str], more: Sequence[str], folder: str) -> dict[str, str]:
    """The environment of a model process.

    Args:
        environment: of the server.
        more: names that somebody declared.
        folder: that is its own; empty for none.
    """
    kept = {name: value for name, value in environment.items() if is_passed(name, more)}
    own = {"HOME": folder or _NOWHERE, "LOGNAME": _ACCOUNT, "USER": _ACCOUNT}
    if folder:
        own["TMPDIR"] = folder
    # onnxruntime sends to its maker what it is used for, also from the process of a model with a network.
    own["ORT_DISABLE_TELEMETRY"] = "1"
    # The interpreter looks for packages of its user below HOME, which is another one now.
    own["PYTHONUSERBASE"] = site.getuserbase()
    return {**kept, **{name: value for name, value in own.items() if name not in more}}


class PrivateFolder:
    """A folder that one model process may write into, gone with it.

    It is locked for as long as its maker lives, so that what a maker that was killed left behind is known by
    its lock, and removed by the next one. Belongs to one thread.

    Attributes:
        path: of it; empty where the machine has no place for one.
    """

    def __init__(self) -> None:
        self.path = ""
        lock = -1
        with suppress(OSError):
            _sweep_once(tempfile.gettempdir())
            self.path = tempfile.mkdtemp(prefix=_PREFIX)
            lock = _held(self.path)
        #: Called at the latest when its maker ends in an orderly way.
        self._remove = weakref.finalize(self, _removed, self.path, lock)

    def close_empty(self) -> bool:
        """Remove it if nothing is in it; whether it is gone."""
        if self.path and self._remove.alive:
            try:
                Path(self.path).rmdir()
            except OSError:
                return False
        self.close()
        return True

    def close(self) -> None:
        """Remove it with everything in it, however long that takes. Nothing happens the second time."""
        self._remove()


def _removed(path: str, lock: int) -> None:
    if path:
        rmtree(path, ignore_errors=True)
    if lock >= 0:
        os.close(lock)


@functools.cache
def _sweep_once(place: str) -> None:
    sweep(Path(place))


def sweep(place: Path) -> None:
    """Remove the folders that makers which are gone left in a place."""
    old = time.time() - _YOUNG_S
    for path in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mtime > old:
                continue
            lock = _held(path)
            try:
                rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _held(path: str | Path) -> int:
    """A lock on a folder, which ends with the descriptor.

    Raises:
        OSError: somebody else has it, or it is gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

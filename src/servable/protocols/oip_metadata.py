"""What the Open Inference Protocol says about servers and models, as plain objects for JSON and gRPC. Pure.

The shapes of the objects are those of the protocol and of its extensions for model configuration,
statistics and model repositories.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from servable.artifact.signature import Signature
from servable.protocols.datatypes import BYTES
from servable.protocols.face import Face, Tensor

#: The name of the server, and what runs every model.
SERVER = "servable"
#: The extensions of the protocol that are served.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
)
_OK = "ok"
_NS = 1_000_000_000
#: The state of a version that answers at once.
READY = "READY"
#: What the states of wanted versions are called in an index.
_STATES = {
    "live": READY,
    "cold": "UNAVAILABLE",
    "loading": "LOADING",
    "failed": "UNAVAILABLE",
    "warm": "UNAVAILABLE",
}


class Figures(Protocol):
    """What was counted for one version of a model: ``monitoring.totals.ModelFigures`` is one."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def version(self) -> int:
        """Which one."""
        ...

    @property
    def codes(self) -> Mapping[str, int]:
        """Requests by outcome; ``ok`` is a success."""
        ...

    @property
    def seconds(self) -> float:
        """How long all requests took together."""
        ...

    @property
    def failed_seconds(self) -> float:
        """How long those took that were no success."""
        ...

    @property
    def wait_buckets(self) -> Sequence[int]:
        """Requests that waited for their turn, by how long."""
        ...

    @property
    def wait_seconds(self) -> float:
        """How long they waited together."""
        ...

    @property
    def batches(self) -> int:
        """Runs of the model."""
        ...

    @property
    def batch_rows(self) -> int:
        """Rows that were run."""
        ...

    @property
    def run_requests(self) -> int:
        """Requests that shared in the runs; one that was run in parts counts for each."""
        ...

    @property
    def run_seconds(self) -> float:
        """How long the runs took, counted once for every request in them."""
        ...

    @property
    def batch_sizes(self) -> Mapping[int, tuple[int, float]]:
        """Runs and their seconds by rows, for the first few sizes that came."""
        ...

    @property
    def last_run(self) -> float:
        """When the last run ended, in seconds since 1970; 0 when there was none."""
        ...

    @property
    def cache_hits(self) -> int:
        """Answers from the cache."""
        ...

    @property
    def cache_misses(self) -> int:
        """Answers that the cache did not have."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Memory that the model holds."""
        ...


def server_metadata(version: str) -> dict[str, Any]:
    """Name, version and extensions of the server.

    Args:
        version: of Servable.
    """
    return {"name": SERVER, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(name: str, versions: Iterable[int], signature: Signature) -> dict[str, Any]:
    """What a model takes and gives; the first size of each shape is the rows.

    Args:
        name: of the model.
        versions: that are served.
        signature: of the version that was asked for.
    """
    face = Face(signature)
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": SERVER,
        "inputs": [_described(tensor) for tensor in face.inputs],
        "outputs": [_described(tensor) for tensor in face.outputs],
    }


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def model_config(name: str, signature: Signature, *, max_rows: int, batched: bool = True) -> dict[str, Any]:
    """The configuration of a model, as far as it means anything here.

    Args:
        name: of the model.
        signature: what it takes and gives.
        max_rows: that one request may hold.
        batched: whether rows of several requests share a run.
    """
    face = Face(signature)
    config: dict[str, Any] = {
        "name": name,
        "platform": SERVER,
        "backend": SERVER,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": max_rows,
        "input": [_configured(tensor) for tensor in face.inputs],
        "output": [_configured(tensor) for tensor in face.outputs],
        "instance_group": [{"name": name, "kind": "KIND_CPU", "count": 1}],
        "default_model_filename": "",
        "parameters": {},
        "model_transaction_policy": {"decoupled": False},
    }
    if batched:
        config["dynamic_batching"] = {}
    return config


def _configured(tensor: Tensor) -> dict[str, Any]:
    datatype = "STRING" if tensor.datatype == BYTES else tensor.datatype
    # With a batch size the sizes are those of one row, and a row of no axes has one of a single element.
    return {
        "name": tensor.name,
        "data_type": f"TYPE_{datatype}",
        "dims": list(tensor.shape[1:]) or [1],
        **({} if len(tensor.shape) > 1 else {"reshape": {"shape": []}}),
    }


def model_statistics(figures: Iterable[Figures]) -> dict[str, Any]:
    """What was counted, as the statistics extension puts it.

    Decoding and encoding are not timed apart, so that ``compute_input`` and ``compute_output`` stay empty.

    Args:
        figures: of all processes together, one for each version.
    """
    return {"model_stats": [_statistics(each) for each in figures]}


def _statistics(figures: Figures) -> dict[str, Any]:
    succeeded = figures.codes.get(_OK, 0)
    failed = sum(figures.codes.values()) - succeeded
    nothing = _duration(0, 0.0)
    return {
        "name": figures.model,
        "version": str(figures.version),
        "last_inference": round(figures.last_run * 1000),
        "inference_count": figures.batch_rows,
        "execution_count": figures.batches,
        "inference_stats": {
            "success": _duration(succeeded, figures.seconds - figures.failed_seconds),
            "fail": _duration(failed, figures.failed_seconds),
            # An answer from the cache waited for nothing, and is counted as one that did not wait.
            "queue": _duration(sum(figures.wait_buckets) + figures.cache_hits, figures.wait_seconds),
            "compute_input": nothing,
            "compute_infer": _duration(figures.run_requests, figures.run_seconds),
            "compute_output": nothing,
            "cache_hit": _duration(figures.cache_hits, 0.0),
            "cache_miss": _duration(figures.cache_misses, 0.0),
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": nothing,
                "compute_infer": _duration(count, seconds),
                "compute_output": nothing,
            }
            for rows, (count, seconds) in sorted(figures.batch_sizes.items())
        ],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": held}]
        if (held := figures.memory_bytes)
        else [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": max(0, round(seconds * _NS))}


def index_entry(name: str, version: int, state: str, reason: str) -> dict[str, str]:
    """One wanted version in the index of a model repository.

    Args:
        name: of the model.
        version: which one.
        state: ``live``, ``cold``, ``loading``, ``failed`` or ``warm``.
        reason: one sentence when it is not live.
    """
    return {"name": name, "version": str(version), "state": _STATES[state], "reason": reason}

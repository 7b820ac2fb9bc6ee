"""ModelInfer by grpc.aio, as its documentation writes servers: python -m bench.grpc_peer PORT FILE."""

import asyncio
import sys
from typing import Any

import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2, service_pb2_grpc

import grpc


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """One model, run inline as Servable runs it."""

    def __init__(self, file: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]
        self._dtype = np.float64 if "double" in self._input.type else np.float32

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the method
        """One prediction."""
        shape = tuple(request.inputs[0].shape)
        rows = np.frombuffer(request.raw_input_contents[0], np.float64).reshape(shape).astype(self._dtype)
        answer = self._session.run(None, {self._input.name: rows})[0].astype(np.int64)
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        response.outputs.add(name="prediction", datatype="INT64", shape=answer.shape)
        response.raw_output_contents.append(answer.tobytes())
        return response


async def main(port: str, file: str) -> None:
    """Serve until ended."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(file), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Run by an interpreter with KServe's client: asks a server in every way of it, and prints what it got."""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from httpx import HTTPStatusError
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

import grpc


def given(name: str, array: Any, *, binary: bool) -> InferInput:
    datatype = {"O": "BYTES", "f": "FP32", "d": "FP64"}[array.dtype.char]
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def asked(model: str, inputs: list[InferInput], *outputs: str) -> InferRequest:
    wanted = [RequestedOutput(name, {"binary_data": True}) for name in outputs] or None
    return InferRequest(model, inputs, request_id="mine", request_outputs=wanted)


def plain(response: Any) -> dict[str, Any]:
    """The outputs of an answer by name."""
    found = {output.name: output.as_numpy().tolist() for output in response.outputs}
    return {
        name: [each.decode() if isinstance(each, bytes) else each for each in values]
        for name, values in found.items()
    }


def requests(cases: dict[str, Any], *, binary: bool) -> dict[str, InferRequest]:
    rows = np.array(cases["rows"])
    texts = np.array([each.encode() for each in cases["texts"]], object)
    images = np.array(cases["images"], np.float32)
    outputs = ("scores",) if binary else ()
    return {
        "iris": asked("iris", [given("input", rows, binary=binary)]),
        "shout": asked("shout", [given("text", texts, binary=binary)]),
        "image": asked("image", [given("image", images, binary=binary)], *outputs),
    }


async def over_rest(url: str, cases: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v1", retries=0)) as client:
        assert await client.is_server_live(url)
        assert await client.is_model_ready(url, "iris")
        told["v1 absent"] = await refused(client.is_model_ready(url, "nope"))
        told["v1"] = {
            "iris": await client.infer(url, {"instances": cases["rows"]}, "iris"),
            "shout": await client.infer(url, {"instances": cases["texts"]}, "shout"),
            "image": await client.infer(url, {"instances": cases["images"]}, "image"),
        }
        told["v1 refused"] = await refused(client.infer(url, {"instances": [["x"]]}, "iris"))
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, "iris")
        for name, binary in (("v2", False), ("v2 binary", True)):
            told[name] = {
                model: plain(await client.infer(url, request, model))
                for model, request in requests(cases, binary=binary).items()
            }
        wrong = asked("iris", [given("input", np.ones((1, 3)), binary=False)])
        told["v2 refused"] = await refused(client.infer(url, wrong, "iris"))
    return told


async def over_grpc(place: str, cases: dict[str, Any]) -> dict[str, Any]:
    async with InferenceGRPCClient(place, retries=0) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("iris")
        told: dict[str, Any] = {
            name: {
                model: plain(await client.infer(request))
                for model, request in requests(cases, binary=binary).items()
            }
            for name, binary in (("grpc", False), ("grpc raw", True))
        }
        wrong = asked("iris", [given("input", np.ones((1, 3)), binary=True)])
        told["grpc refused"] = await refused(client.infer(wrong))
    return told


async def refused(call: Any) -> str:
    try:
        await call
    except (HTTPStatusError, grpc.RpcError) as error:
        return str(error)
    return ""


async def main() -> None:
    url = sys.argv[1]
    cases = json.load(sys.stdin)
    rest = await over_rest(url, cases)
    print(json.dumps(rest | await over_grpc(url.removeprefix("http://"), cases)))


if __name__ == "__main__":
    asyncio.run(main())

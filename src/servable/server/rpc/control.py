"""The methods of the inference service that are no predictions. Each takes a message and gives one."""

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped]

from servable.errors import InputError, RequestMalformed, ServableError
from servable.monitoring.totals import ModelFigures
from servable.protocols import oip_metadata
from servable.protocols.messages import Messages
from servable.protocols.oip_messages import PACKAGE, SERVICE, messages
from servable.security.callers import Caller, Hidden
from servable.security.scopes import Need
from servable.server.desk import Desk
from servable.server.formats.base import reference_of
from servable.serving.live import Live, ModelStatus

Method = Callable[[bytes, Caller], Awaitable[bytes]]


def methods(desk: Desk) -> dict[str, Method]:
    """The methods by name."""
    control = _Control(desk)
    return {
        name: _method(name, way)
        for name, way in {
            "ServerLive": control.server_live,
            "ServerReady": control.server_ready,
            "ModelReady": control.model_ready,
            "ServerMetadata": control.server_metadata,
            "ModelMetadata": control.model_metadata,
            "ModelConfig": control.model_config,
            "ModelStatistics": control.model_statistics,
            "RepositoryIndex": control.repository_index,
            "RepositoryModelLoad": control.load,
            "RepositoryModelUnload": control.unload,
        }.items()
    }


def method_of(known: Messages, name: str, fill: Callable[[Any, Any, Caller], Awaitable[None]]) -> Method:
    """A method that fills its answer.

    Args:
        known: the messages of its service.
        name: of the method, with its package; its messages are called ``Request`` and ``Response`` behind it.
        fill: is given the request, the answer, and who asks.
    """

    async def method(message: bytes, caller: Caller) -> bytes:
        # Whatever the library raises here is about the bytes.
        try:
            request = known[f"{name}Request"].FromString(message)
        except Exception as error:  # Protobuf has an error class for each of its implementations.
            raise RequestMalformed(f"The message is no {name.rpartition('.')[2]}Request.") from error
        answer = known[f"{name}Response"]()
        await fill(request, answer, caller)
        data: bytes = answer.SerializeToString()
        return data

    return method


def _method(name: str, way: Callable[[Any, Caller], Awaitable[dict[str, Any]]]) -> Method:
    async def fill(request: Any, answer: Any, caller: Caller) -> None:
        # Fields that the service definition does not have are for callers over HTTP.
        json_format.ParseDict(await way(request, caller), answer, ignore_unknown_fields=True)

    return method_of(messages(), f"{PACKAGE}.{name}", fill)


def _reference(request: Any) -> str:
    return reference_of({"name": request.name, "version": request.version})


class _Control:
    """What the methods do, as plain objects."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def server_live(self, _request: Any, _caller: Caller) -> dict[str, Any]:
        return {"live": True}

    async def server_ready(self, _request: Any, _caller: Caller) -> dict[str, Any]:
        return {"ready": self._desk.ready}

    async def model_ready(self, request: Any, caller: Caller) -> dict[str, Any]:
        # By custom a model that does not exist is not ready, and no error.
        try:
            found = self._desk.find(caller, _reference(request))
        except Hidden as error:
            self._desk.audit.unseen(error, f"/{PACKAGE}.{SERVICE}/ModelReady".encode())
            return {"ready": False}
        except ServableError:
            return {"ready": False}
        return {"ready": isinstance(found, Live) or not found.failure}

    async def server_metadata(self, _request: Any, _caller: Caller) -> dict[str, Any]:
        return oip_metadata.server_metadata(self._desk.version)

    async def model_metadata(self, request: Any, caller: Caller) -> dict[str, Any]:
        reference = _reference(request)
        found = self._desk.find(caller, reference)
        signature = await self._desk.signature(caller, reference)
        versions = {each.version for each in self._served(caller) if each.model == found.model}
        return oip_metadata.model_metadata(found.model, sorted(versions | {found.version}), signature)

    async def model_config(self, request: Any, caller: Caller) -> dict[str, Any]:
        reference = _reference(request)
        found = self._desk.find(caller, reference)
        signature = await self._desk.signature(caller, reference)
        # What is not loaded has not said yet whether its rows may share a run.
        batched = isinstance(found, Live) and found.loaded.batching.shared
        return {
            "config": oip_metadata.model_config(
                found.model, signature, max_rows=self._desk.settings.max_rows, batched=batched
            )
        }

    async def model_statistics(self, request: Any, caller: Caller) -> dict[str, Any]:
        if request.name:
            found = self._desk.find(caller, _reference(request), "read")
            wanted = [(found.model, found.version)]
        else:
            wanted = [(each.model, each.version) for each in self._served(caller, "read")]
        known = {(each.model, each.version): each for each in (await self._desk.totals()).models}
        figures = [known.get(key) or ModelFigures(model=key[0], version=key[1]) for key in wanted]
        return oip_metadata.model_statistics(figures)

    async def repository_index(self, request: Any, caller: Caller) -> dict[str, Any]:
        entries = [
            oip_metadata.index_entry(each.model, each.version, each.state, each.reason)
            for each in self._desk.statuses(caller)
        ]
        return {
            "models": [each for each in entries if not request.ready or each["state"] == oip_metadata.READY]
        }

    async def load(self, request: Any, caller: Caller) -> dict[str, Any]:
        if request.parameters:
            raise InputError(
                "Models and their configuration are not taken from a call; register them with servable add "
                "or servable train, then deploy them with servable deploy."
            )
        await self._desk.change(caller, request.model_name, load=True)
        return {}

    async def unload(self, request: Any, caller: Caller) -> dict[str, Any]:
        await self._desk.change(caller, request.model_name, load=False)
        return {}

    def _served(self, caller: Caller, need: Need = "see") -> list[ModelStatus]:
        """The versions that answer, if need be after a cold start, of the models that a caller sees."""
        return [each for each in self._desk.statuses(caller, need) if each.state in ("live", "cold")]

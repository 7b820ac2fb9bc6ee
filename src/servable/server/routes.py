"""Every address that is not a prediction. The handlers only read."""

import asyncio
import contextlib
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servable.artifact import signature as signatures
from servable.artifact.manifest import REPORT_FILE
from servable.errors import NotFoundError, ServableError, Unauthenticated
from servable.frameworks.base import STREAMS
from servable.protocols.openapi import FORMATS_PATH, Described, document
from servable.protocols.openapi_formats import formats_document
from servable.protocols.openapi_headers import KEY
from servable.protocols.openapi_security import guarded
from servable.security.callers import NOBODY, Caller
from servable.security.content_policy import sealed, still_policy
from servable.server import pages
from servable.server.authentication import Authentication
from servable.server.certificates import certificate_use
from servable.server.desk import Desk, caller_of, json_response
from servable.server.formats.base import OpenRoute
from servable.server.mounts import prefix_of
from servable.server.safe_headers import page_headers
from servable.serving.live import Cold, Live, ModelStatus
from servable.serving.table import Table

_encode = msgspec.json.encode
#: Models that are not loaded and are described in the OpenAPI document all the same.
_DESCRIBED_COLD = 200


#: Signs of life, which are also answered without a key.
SIGNS = ("/", "/healthz", "/readyz")
#: Documents that are kept: callers who see other models get other ones.
_KEPT = 8


def routes(desk: Desk, authentication: Authentication) -> list[Route]:
    """The routes of a server.

    Args:
        desk: what they read from.
        authentication: says whether keys are wanted.
    """
    looks = _Looks(desk, authentication)
    signs = dict(zip(SIGNS, (looks.landing, looks.health, looks.readiness), strict=True))
    table = {
        "/metrics": looks.metrics,
        "/openapi.json": looks.openapi,
        FORMATS_PATH: looks.formats,
        "/docs": looks.docs,
        "/docs/static/{name}": looks.static,
        "/models": looks.models,
        "/models/{name}": looks.model,
        "/models/{name}/report": looks.report,
    }
    return [
        *(OpenRoute(path, handler, methods=["GET"]) for path, handler in signs.items()),
        *(Route(path, handler, methods=["GET"]) for path, handler in table.items()),
    ]


class _Looks:
    """The handlers; they share what they read from."""

    def __init__(self, desk: Desk, authentication: Authentication) -> None:
        self._desk = desk
        self._authentication = authentication
        self._host = desk.host
        self._version = desk.version
        self._documents: deque[tuple[tuple[tuple[Described, ...], str, bool], bytes]] = deque(maxlen=_KEPT)

    async def landing(self, request: Request) -> Response:
        """The page that links everything; for a client that does not ask for a page, a sign of life.

        KServe's client of the first protocol looks here whether a server is alive, and takes any type.
        """
        if "text/html" not in request.headers.get("accept", "").lower():
            answer = json_response({"status": "alive"})
            answer.headers["vary"] = "accept"
            return answer
        caller, table = caller_of(request), self._host.table
        if caller is NOBODY:
            raise Unauthenticated(browser=True)
        reports = frozenset(
            name for name, live in table.models.items() if _has_report(live) and caller.may("read", name)
        )
        origin = f"{request.url.scheme}://{request.url.netloc}"
        place = pages.Place(origin, prefix_of(request.scope))
        seen = tuple(self._desk.statuses(caller))
        return _html(pages.landing_page(table, seen, reports, place), pages.LANDING_POLICY)

    async def health(self, _request: Request) -> Response:
        """The process lives."""
        return json_response({"status": "ok"})

    async def readiness(self, request: Request) -> Response:
        """Whether every model is ready, and what is not, as far as the caller sees it."""
        ready = self._desk.ready
        waiting = [
            {"model": status.model, "version": status.version, "state": status.state, "reason": status.reason}
            for status in self._desk.statuses(caller_of(request))
            if status.state in ("loading", "failed")
        ]
        return json_response({"ready": ready, "not_live": waiting}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Figures for Prometheus: the sum over all HTTP processes of this server."""
        figures = await self._desk.figures(caller_of(request))
        return Response(figures, media_type=self._host.metrics.content_type)

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document; made anew when other models are described than the last time."""
        described, prefix = await self._described(caller_of(request)), prefix_of(request.scope)
        keyed = self._authentication.present.keyed
        for known, made in self._documents:
            if known == (described, prefix, keyed):
                return Response(made, media_type="application/json")

        def make() -> bytes:
            whole = document(described, self._version, prefix)
            certificates = certificate_use(self._desk.settings)
            return _encode(guarded(whole, SIGNS, certificates) if keyed else whole)

        made = await asyncio.to_thread(make)
        self._documents.append(((described, prefix, keyed), made))
        return Response(made, media_type="application/json")

    async def formats(self, request: Request) -> Response:
        """The OpenAPI document of the other wire formats."""
        names = list(self._desk.models(caller_of(request)))
        # A choice among very many is none.
        offered = names if len(names) <= _DESCRIBED_COLD else ()
        chosen = self._desk.settings.predict_route
        return json_response(formats_document(offered, self._version, prefix_of(request.scope), chosen))

    async def _described(self, caller: Caller) -> tuple[Described, ...]:
        """The loaded models, and of the others as many as a document bears, without loading them.

        Args:
            caller: who does not see them is not told of them.
        """
        table = self._host.table
        default = table.default_name
        found = [
            Described(
                live.model, live.version, live.signature, live.model == default, live.streams,
                _divided(table, live.model), tuple(table.versions(live.model)),
                live.wanted.policy.sticky or KEY,
            )
            for live in table.models.values() if caller.may("see", live.model)
        ]  # fmt: skip
        colds = {cold.model: cold for cold in table.cold.values() if caller.may("see", cold.model)}
        for name in sorted(colds)[:_DESCRIBED_COLD]:
            cold = colds[name]
            # What cannot be read is not described; calling it says why.
            with contextlib.suppress(ServableError):
                manifest, signature = await self._host.outline(cold)
                streams = bool(manifest.chosen.options.get(STREAMS))
                found.append(Described(name, cold.version, signature, name == default, streams))
        return tuple(sorted(found, key=lambda each: each.model))

    async def docs(self, request: Request) -> Response:
        """Swagger UI."""
        return _html(pages.docs_page(prefix_of(request.scope)), pages.DOCS_POLICY)

    async def static(self, request: Request) -> Response:
        """A file of Swagger UI."""
        name = request.path_params["name"]
        content = pages.static_file(name)
        headers = {"content-type": pages.STATIC[name], "cache-control": "private, max-age=3600"}
        return Response(content, headers=headers)

    async def models(self, request: Request) -> Response:
        """Every wanted version and its state."""
        table, seen = self._host.table, self._desk.statuses(caller_of(request))
        default = table.default_name if any(each.model == table.default_name for each in seen) else None
        prefix = prefix_of(request.scope)
        listed = [_summary(status, table, prefix) for status in seen]
        return json_response({"models": listed, "default": default})

    async def model(self, request: Request) -> Response:
        """One model with its signature; a cold one stays cold."""
        live = self._desk.find(caller_of(request), request.path_params["name"])
        prefix = prefix_of(request.scope)
        if isinstance(live, Cold):
            manifest, signature = await self._host.outline(live)
            return json_response(
                {
                    **_summary(live.status(), self._host.table, prefix),
                    "aliases": live.wanted.aliases,
                    "package": live.wanted.digest,
                    "streams": bool(manifest.chosen.options.get(STREAMS)),
                    "signature": msgspec.json.decode(signatures.encode(signature)),
                }
            )
        manifest = live.loaded.package.manifest
        table = self._host.table
        return json_response(
            {
                **_summary(live.status(), table, prefix),
                "framework": manifest.framework,
                "created_at": manifest.created_at,
                "metrics": manifest.metrics,
                "aliases": live.wanted.aliases,
                "package": live.wanted.digest,
                "streams": live.streams,
                "executor": live.executor.statistics(),
                "versions": [
                    {"version": each.version, "state": each.state, "share": each.share}
                    for each in table.statuses
                    if each.model == live.model
                ],
                "signature": msgspec.json.decode(signatures.encode(live.signature)),
            }
        )

    async def report(self, request: Request) -> Response:
        """The evaluation report of a model, which is loaded for it."""
        live = self._desk.find(caller_of(request), request.path_params["name"], "read")
        if isinstance(live, Cold):
            live = await live.warm()
        if not _has_report(live):
            raise NotFoundError(
                f"{live.model}:{live.version} has no evaluation report; it was not trained here."
            )
        return await asyncio.to_thread(_report_page, live.loaded.package.folder / REPORT_FILE)


def _has_report(live: Live) -> bool:
    return any(entry.path == REPORT_FILE for entry in live.loaded.package.manifest.files)


def _summary(status: ModelStatus, table: Table, prefix: str) -> dict[str, Any]:
    live = table.targets.get(f"{status.model}:{status.version}")
    summary: dict[str, Any] = {
        "name": status.model,
        "version": status.version,
        "state": status.state,
        "reason": status.reason,
        "share": status.share,
        **({"mirrored": status.mirrored} if status.mirrored else {}),
        "default": status.model == table.default_name and status.state in ("live", "cold"),
        "predict": f"{prefix}/models/{status.model}/predict",
    }
    if live is not None:
        summary["task"] = live.signature.task
        summary["inputs"] = [field.name for field in live.signature.inputs]
        summary["serving"] = {
            "variant": status.variant,
            "executor": status.placement,
            "reason": status.placement_reason,
            "device": status.device,
            **({"device_reason": status.device_reason} if status.device_reason else {}),
            "example_us": round(status.example_seconds * 1e6, 1),
            "batching": status.batching_reason or "rows of several requests share a run",
            "memory_bytes": status.memory_bytes,
            **({"accelerator_bytes": status.accelerator_bytes} if status.accelerator_bytes else {}),
            "confinement": status.confinement,
            **({"protections": status.protections} if status.protections else {}),
        }
    return summary


def _divided(table: Table, model: str) -> str:
    """How the requests of a model are divided, in one sentence; empty when they are not."""
    split = table.splits.get(model)
    if split is None:
        return ""
    parts = ", ".join(
        f"version {version} {part * 100:.3g} %" for version, part in sorted(split.shares.items())
    )
    return (
        f"Its requests are divided: {parts}; the header {split.header} keeps a caller with one version, and "
        "x-servable-version names one."
    )


def _report_page(file: Path) -> Response:
    # It came with its package, which may be from elsewhere, or from before reports stated a policy.
    page = sealed(file.read_text(encoding="utf-8", errors="replace"))
    return _html(page.encode(), still_policy(page, sandbox=True))


def _html(content: bytes, policy: str) -> Response:
    return Response(content, media_type="text/html", headers=page_headers(policy))

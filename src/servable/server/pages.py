"""The pages for people: a landing page, the interactive documentation, and its static files."""

import importlib.util
import json
import shlex
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import NamedTuple

from servable.errors import DependencyMissing, RouteNotFound
from servable.protocols.native_schema import example_row
from servable.protocols.openapi import operation_id
from servable.security.content_policy import still_policy
from servable.serving.live import Live, ModelStatus
from servable.serving.table import Table

#: Static files of the installed Swagger UI that may be asked for, and their content types.
STATIC = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript; charset=utf-8",
}
#: The documentation runs its own scripts and calls its own server, nothing else.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: Characters of an example that a line to copy may hold; a longer one is read from a file.
_LONGEST_BODY = 4000

_START = b"""window.addEventListener("load", function () {
  window.ui = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    tryItOutEnabled: true,
    displayRequestDuration: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout"
  });
});
"""

_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Servable: API</title>
<link rel="icon" type="image/png" href="{prefix}/docs/static/favicon-32x32.png">
<link rel="stylesheet" href="{prefix}/docs/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{prefix}/docs/static/swagger-ui-bundle.js"></script>
<script src="{prefix}/docs/static/start.js"></script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff;
  --ink: #14181f; --muted: #667085; --soft: #eef1f6;
  --good: #0f8a5f; --bad: #c4372c; --wait: #9a6700; --c0: #3b5bdb;
  --shade: 0 1px 2px rgb(16 24 40 / .05), 0 6px 20px rgb(16 24 40 / .05); }
@media (prefers-color-scheme: dark) { :root { --page: #0e1116;
  --card: #161b22; --ink: #e6eaf0; --muted: #94a0b0;
  --soft: #1d242e; --good: #3ecf96; --bad: #ff7b6f; --wait: #e3b341;
  --c0: #8da2fb; --shade: 0 0 0 1px #222a34; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
header { background: linear-gradient(color-mix(in srgb, var(--c0) 13%, var(--page)), var(--page));
  padding: 40px 0 8px; }
header > div, main, footer { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
h1 { font-size: 34px; line-height: 1.15; margin: 0 0 6px; letter-spacing: -.02em; }
h2 { font-size: 18px; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
p { margin: 0; } a { color: var(--c0); text-decoration: none; } a:hover { text-decoration: underline; }
.lead { font-size: 17px; } .muted { color: var(--muted); }
nav { margin-top: 12px; } nav a { display: inline-block; margin-right: 18px; }
main { display: grid; gap: 16px; padding-top: 20px; }
.card { background: var(--card); border-radius: 14px; padding: 18px 20px; box-shadow: var(--shade);
  min-width: 0; }
.top { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: center; } .top nav { margin: 0 0 0 auto; }
.top nav a { margin: 0 0 0 16px; }
.chip { border-radius: 99px; padding: 1px 9px; font-size: 12px;
  background: var(--soft); color: var(--muted); }
.chip.live { background: color-mix(in srgb, var(--good) 15%, transparent); color: var(--good); }
.chip.failed { background: color-mix(in srgb, var(--bad) 15%, transparent); color: var(--bad); }
.chip.loading { background: color-mix(in srgb, var(--wait) 15%, transparent); color: var(--wait); }
.why { margin-top: 6px; overflow-wrap: anywhere; } .why.failed { color: var(--bad); }
pre { background: var(--soft); border-radius: 10px; padding: 11px 14px; overflow-x: auto; margin: 12px 0 0;
  font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; user-select: all; }
footer { color: var(--muted); font-size: 13px; padding-top: 28px; padding-bottom: 40px; }
@media (max-width: 560px) {
  header { padding-top: 28px; } header > div, main, footer { padding-left: 16px; padding-right: 16px; }
  .card { padding: 16px; } .top nav { margin: 0; width: 100%; } .top nav a { margin: 0 16px 0 0; } }
"""

#: The landing page runs nothing.
LANDING_POLICY = still_policy(f"<style>{_STYLE}</style>")


def docs_page(prefix: str = "") -> bytes:
    """The page that starts Swagger UI from this server's own files.

    Args:
        prefix: under which the server is mounted; empty at the root.
    """
    return _DOCS.replace("{prefix}", escape(prefix)).encode()


@cache
def static_file(name: str) -> bytes:
    """One of the files of ``STATIC``.

    Raises:
        RouteNotFound: no such file.
        DependencyMissing: Swagger UI is not installed.
    """
    if name not in STATIC:
        raise RouteNotFound("There is no such file.")
    if name == "start.js":
        return _START
    # Found without importing it: the package's code would import every web framework that it knows.
    found = importlib.util.find_spec("swagger_ui")
    if found is None or not found.submodule_search_locations:
        raise DependencyMissing("The page /docs needs swagger-ui-py, which is not installed.")
    return (Path(found.submodule_search_locations[0]) / "static" / name).read_bytes()


class Place(NamedTuple):
    """Where a reader reached this server.

    Attributes:
        origin: such as ``http://127.0.0.1:8000``.
        prefix: under which the server is mounted there; empty at the root.
    """

    origin: str
    prefix: str = ""


def landing_page(table: Table, seen: Sequence[ModelStatus], reports: frozenset[str], place: Place) -> bytes:
    """What is served here, with links and a call to copy for every model.

    Args:
        table: the live models.
        seen: what the reader sees of them.
        reports: names of the models that have an evaluation report.
        place: of this server as the reader reached it.
    """
    base = escape(place.prefix)
    cards = "".join(_card(status, table, status.model in reports, place) for status in seen)
    count = len({status.model for status in seen if status.state in ("live", "cold")})
    lead = "1 model answers here." if count == 1 else f"{count} models answer here."
    empty = '<section class="card"><p>No model is deployed yet.</p><pre>servable deploy NAME</pre></section>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Servable</title><style>{_STYLE}</style></head><body>"
        f'<header><div><h1>Servable</h1><p class="lead">{lead}</p>'
        f'<nav><a href="{base}/docs">Try it</a><a href="{base}/openapi.json">OpenAPI</a>'
        f'<a href="{base}/openapi-formats.json">Other formats</a>'
        f'<a href="{base}/models">Models as JSON</a>'
        f'<a href="{base}/readyz">Readiness</a><a href="{base}/metrics">Metrics</a></nav></div></header>'
        f"<main>{cards or empty}</main>"
        "<footer>This page shows the moment at which it was loaded.</footer></body></html>"
    ).encode()


def _card(status: ModelStatus, table: Table, report: bool, place: Place) -> str:
    name, base = escape(status.model), escape(place.prefix)
    live = table.targets.get(f"{status.model}:{status.version}")
    chips = [f'<span class="chip {status.state}">{status.state}</span>']
    head = f"<h2>{name}</h2>"
    if status.state in ("live", "cold"):
        head = f'<h2><a href="{base}/models/{name}">{name}</a></h2>'
        if status.model == table.default_name:
            chips.append('<span class="chip">default</span>')
    if 0 < status.share < 1:
        chips.append(f'<span class="chip">{status.share * 100:.3g} % of the requests</span>')
    if status.mirrored:
        chips.append('<span class="chip">shadow</span>')
    if live is None:
        rest = f'<p class="why {status.state}">{escape(status.reason or "It is being loaded.")}</p>'
        links = ""
    else:
        rest = (
            f'<p class="why muted">{_about(live, status)}</p><pre>{escape(_call(live, table, place))}</pre>'
        )
        links = f'<a href="{base}/docs#/{name}/{operation_id(status.model)}">Try it</a>'
        if report and live is table.models.get(status.model):
            links = f'<a href="{base}/models/{name}/report">Report</a>{links}'
    return (
        f'<section class="card"><div class="top">{head}<span class="muted">version {status.version}</span>'
        f"{''.join(chips)}<nav>{links}</nav></div>{rest}</section>"
    )


def _about(live: Live, status: ModelStatus) -> str:
    signature = live.signature
    count = len(signature.inputs)
    kind = "tensors" if signature.inputs and signature.inputs[0].is_tensor else "columns"
    answer = f" of {signature.answer.name}" if signature.task in ("classification", "regression") else ""
    took = f"{status.example_seconds * 1e6:,.0f} µs a row"
    taken = f"{count} {kind if count != 1 else kind.removesuffix('s')}"
    return escape(f"{signature.task.capitalize()}{answer} from {taken} · {status.variant}, {took}")


def _call(live: Live, table: Table, place: Place) -> str:
    """A shell line that asks the model about its example."""
    newest = live is table.models.get(live.model)
    path = (
        f"/models/{live.model}/predict" if newest else f"/models/{live.model}/versions/{live.version}/predict"
    )
    body = json.dumps({"input": example_row(live.signature)}, ensure_ascii=False)
    if len(body) > _LONGEST_BODY:
        body = "@row.json"
    # The address is what the caller said in its Host header, so it is quoted for the shell as well.
    address = shlex.quote(place.origin + place.prefix + path)
    return f"curl {address} -H 'content-type: application/json' -d {shlex.quote(body)}"

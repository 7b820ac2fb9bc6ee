"""The pages for people: a landing page, the interactive documentation, and its static files."""

import importlib.util
from functools import cache
from html import escape
from pathlib import Path

from servable.errors import DependencyMissing, RouteNotFound
from servable.serving.live import Table

#: Static files of the installed Swagger UI that may be asked for, and their content types.
STATIC = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript; charset=utf-8",
}
#: The documentation runs its own scripts and calls its own server, nothing else.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Reports and the landing page hold their style and pictures in themselves and run nothing.
STILL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_START = b"""window.addEventListener("load", function () {
  window.ui = SwaggerUIBundle({
    url: "../openapi.json",
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

_DOCS = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Servable: API</title>
<link rel="icon" type="image/png" href="/docs/static/favicon-32x32.png">
<link rel="stylesheet" href="/docs/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script src="/docs/static/start.js"></script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --accent: #2f6fed; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 3rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } p.lead { color: var(--soft); margin-top: .2rem; }
a { color: var(--accent); } table { border-collapse: collapse; width: 100%; margin: 1.5rem 0; }
th, td { text-align: left; padding: .5rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } .failed { color: #c0392b; } .scroll { overflow-x: auto; }
nav a { margin-right: 1.2rem; }
"""


def docs_page() -> bytes:
    """The page that starts Swagger UI from this server's own files."""
    return _DOCS


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


def landing_page(table: Table, reports: frozenset[str]) -> bytes:
    """What is served here, with links.

    Args:
        table: the live models.
        reports: names of the models that have an evaluation report.
    """
    rows = []
    for status in table.statuses:
        name = escape(status.model)
        link = f'<a href="/models/{name}">{name}</a>'
        report = f'<a href="/models/{name}/report">report</a>' if status.model in reports else ""
        detail = escape(status.reason or f"{status.variant}, {status.placement}")
        rows.append(
            f"<tr><td>{link}</td><td>{status.version}</td>"
            f'<td class="{status.state}">{status.state}</td><td>{detail}</td><td>{report}</td></tr>'
        )
    body = "".join(rows) or '<tr><td colspan="5">No model is deployed; run: servable deploy NAME</td></tr>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Servable</title><style>{_STYLE}</style></head><body>"
        '<h1>Servable</h1><p class="lead">The models that this server answers for.</p>'
        '<nav><a href="/docs">Try it</a><a href="/openapi.json">OpenAPI</a>'
        '<a href="/models">Models (JSON)</a>'
        '<a href="/readyz">Readiness</a><a href="/metrics">Metrics</a></nav>'
        '<div class="scroll"><table><thead><tr><th>Model</th><th>Version</th><th>State</th><th>Runs as</th>'
        f"<th></th></tr></thead><tbody>{body}</tbody></table></div></body></html>"
    ).encode()

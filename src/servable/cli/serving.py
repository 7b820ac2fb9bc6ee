"""The verb ``serve``: model files are taken in first, then a server answers until it is stopped."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable.cli import exits, options
from servable.cli.output import Screen
from servable.errors import SettingInvalid

if TYPE_CHECKING:
    from servable.engines import reload as reloading
    from servable.settings import ServerSettings

What = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH|NAME",
        help="Model files to take in and serve, or models to serve; nothing: every deployment.",
        autocompletion=options.complete_model,
        show_default=False,
    ),
]
Host = Annotated[
    str | None,
    typer.Option(help="Address to listen on.", show_default="127.0.0.1", rich_help_panel=options.SERVING),
]
Port = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port to listen on; 0 takes a free one.",
        show_default="8000",
        rich_help_panel=options.SERVING,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=256,
        help="HTTP processes on the one socket; about one for each core.",
        show_default="1",
        rich_help_panel=options.SERVING,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Load models when first called and keep them within so much memory, such as 4GiB.",
        show_default="no limit, all loaded at once",
        rich_help_panel=options.SERVING,
    ),
]
AcceleratorMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory of each GPU that models may hold, such as 10GiB; others run on the processor.",
        show_default="what it has, less a reserve",
        rich_help_panel=options.SERVING,
    ),
]
Queue = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1_000_000,
        help="Most requests that wait for one model; more are refused at once.",
        show_default="1024",
        rich_help_panel=options.SERVING,
    ),
]
RequestTimeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.001,
        max=86_400,
        help="Longest a request may take; callers may ask for less.",
        show_default="60",
        rich_help_panel=options.SERVING,
    ),
]
Drain = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=3600,
        help="Keep answering, not ready, for so long after SIGTERM or Ctrl-C.",
        show_default="0",
        rich_help_panel=options.SERVING,
    ),
]
Reload = Annotated[
    bool,
    typer.Option(
        "--reload",
        help="For development: follow changes of each PATH and of servable.toml.",
        rich_help_panel=options.SERVING,
    ),
]
Sample = Annotated[
    Path | None,
    typer.Option(help="Rows that the one PATH accepts (CSV or Parquet).", rich_help_panel=options.DATA),
]
Watch = Annotated[
    bool | None,
    typer.Option(
        "--watch/--no-watch",
        help="Start a process that follows rollouts and the like while there are any.",
        show_default="watch",
        rich_help_panel=options.SERVING,
    ),
]
TlsCert = Annotated[
    str | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        help="Certificate in PEM, with those above it; read again when it is renewed.",
        show_default="no TLS",
        rich_help_panel=options.SERVING,
    ),
]
TlsKey = Annotated[
    str | None,
    typer.Option(
        "--tls-key",
        metavar="FILE",
        help="The certificate's private key in PEM.",
        show_default=False,
        rich_help_panel=options.SERVING,
    ),
]
TlsDev = Annotated[
    bool,
    typer.Option(
        "--tls-dev",
        help="For development: TLS with a certificate as servable tls dev makes it.",
        rich_help_panel=options.SERVING,
    ),
]
TlsClientCa = Annotated[
    str | None,
    typer.Option(
        "--tls-client-ca",
        metavar="FILE",
        help="Accept certificates of clients that are signed by these authorities, in PEM.",
        show_default="clients are asked for none",
        rich_help_panel=options.SERVING,
    ),
]
AllowUnauthenticated = Annotated[
    bool,
    typer.Option(
        "--allow-unauthenticated",
        help="Ask nobody for an API key, at any address, even where there are keys.",
        rich_help_panel=options.SERVING,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(epilog=exits.EPILOG)(serve)


def serve(
    what: What = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    memory: Memory = None,
    accelerator_memory: AcceleratorMemory = None,
    queue: Queue = None,
    request_timeout: RequestTimeout = None,
    drain: Drain = None,
    reload: Reload = False,
    trust: options.Trust = False,
    sample: Sample = None,
    allow_unauthenticated: AllowUnauthenticated = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    tls_dev: TlsDev = False,
    watch: Watch = None,
    home: options.Home = None,
) -> None:
    """Serve models over HTTP until Ctrl-C.

    A PATH is taken in under its file's name and served at once.

    Example: [bold]servable serve model.onnx --reload[/bold],
    [bold]servable serve churn fraud@champion --workers 4[/bold],
    [bold]servable serve --memory 4GiB[/bold]
    """
    from servable.engines.local import serve as run
    from servable.workflows.intake import is_path

    flags = {
        "home": home,
        "host": host,
        "port": port,
        "insecure": allow_unauthenticated or None,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "workers": workers,
        "memory": _size("--memory", memory),
        "accelerator_memory": _size("--accelerator-memory", accelerator_memory),
        "queue_requests": queue,
        "request_timeout_s": request_timeout,
        "drain_s": drain,
        "watch": watch,
    }
    if tls_dev:
        flags |= _for_development(tls_cert or tls_key, home)
    settings = _checked(flags)
    screen = Screen()
    names = [_taken_in(one, screen, trust, sample, home) if is_path(one) else one for one in what or ()]
    paths = [Path(one) for one in what or () if is_path(one)]
    again = {path: _again(path, trust, sample, settings.home) for path in paths}
    ready = partial(_announce, screen, names, settings.workers)
    run(names, settings=settings, on_ready=ready, reload=_reload(again, flags, screen) if reload else None)


def _checked(flags: Mapping[str, Any]) -> "ServerSettings":
    """The settings of a server that may begin.

    Whatever is wrong is refused before a model is taken in, so that a wrong flag or a taken port leaves
    nothing behind.

    Raises:
        SettingInvalid: a setting cannot be, its certificate or keys cannot be read, or the port is taken.
    """
    from servable.server.exposure import check_exposure
    from servable.server.lifecycle import bind
    from servable.server.tls import certificate_of
    from servable.server.tokens import check_tokens
    from servable.settings import load_settings

    settings = load_settings(flags)
    check_exposure(settings)
    check_tokens(settings)
    certificate_of(settings)
    bind(settings.host, settings.port).close()
    return settings


def _reload(again: Mapping[Path, list[str]], flags: Mapping[str, Any], screen: Screen) -> "reloading.Reload":
    """What follows changes of model files and of the settings."""
    from servable.engines.reload import Reload
    from servable.settings import config_path, load_settings

    return Reload(again, config_path(), lambda: load_settings(flags), lambda line: _say(screen, line))


def _for_development(named: str | None, home: Path | None) -> dict[str, str]:
    """The flags of a certificate that is made now.

    Raises:
        SettingInvalid: another certificate is named as well.
    """
    from servable.workflows.certificates import development_certificate

    if named:
        raise SettingInvalid(
            "--tls-dev makes a certificate; leave out --tls-cert and --tls-key, or --tls-dev."
        )
    made = development_certificate(home=home)
    return {"tls_cert": made.cert, "tls_key": made.key}


def _size(option: str, text: str | None) -> int | None:
    """The bytes that the value of an option means.

    Raises:
        SettingInvalid: it is no size.
    """
    from servable.settings import as_bytes

    if text is None:
        return None
    count = as_bytes(text)
    if count is None:
        raise SettingInvalid(f"{option} takes a size such as 512MiB or 4GiB, not {text[:60]!r}.")
    return count


def _announce(screen: Screen, names: list[str], workers: int, url: str) -> None:
    """Say where the server is."""
    from rich.markup import escape  # Lazily: the server is ready before anything is printed.

    what = ", ".join(names) or "every deployment"
    many = f" with {workers} workers" if workers > 1 else ""
    screen.note(f"[green]✓[/green] Serving {escape(what)}{many} at [bold]{url}[/bold]; Ctrl-C ends it")
    screen.note(f"  try it at {url}/docs")


def _say(screen: Screen, line: str) -> None:
    from rich.markup import escape  # As above.

    screen.note(f"[cyan]↻[/cyan] {escape(line)}")


def _again(path: Path, trust: bool, sample: Path | None, home: str) -> list[str]:
    """The arguments of ``servable`` that take a model file in again, in a process of its own."""
    from servable.workflows.intake import name_of

    arguments = ["add", str(path), "--name", name_of(path), "--deploy", "--home", home]
    if sample is not None:
        arguments += ["--sample", str(sample)]
    return [*arguments, "--trust"] if trust else arguments


def _taken_in(text: str, screen: Screen, trust: bool, sample: Path | None, home: Path | None) -> str:
    """Take a model file in, unless the newest version of its name was made from this very file.

    Returns:
        The reference to serve.
    """
    from servable.workflows.intake import take_in

    with screen.progress() as progress:
        taken = take_in(text, sample=sample, trust=trust, home=home, progress=progress)
    reference, outcome = f"{taken.name}:{taken.version}", taken.outcome
    if outcome is None:
        screen.note(f"[bold]{reference}[/bold] was made from this very file and serves again")
        return taken.name
    served = next((row for row in outcome.variants if row.chosen), None)
    faster = f", {served.speedup:,.0f}x faster than as trained" if served and served.speedup else ""
    screen.note(f"[bold]{reference}[/bold] serves as {outcome.serving}{faster}")
    return taken.name

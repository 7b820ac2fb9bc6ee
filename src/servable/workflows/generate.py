"""``client``: the source of a typed client, for a version of a home or for what a running server serves."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from servable.artifact.files import storage_errors
from servable.artifact.signature import Signature
from servable.errors import RemoteError, SettingInvalid
from servable.frameworks.base import STREAMS
from servable.protocols.client_python import python_client
from servable.protocols.client_shape import Subject
from servable.protocols.client_typescript import typescript_client
from servable.workflows.homes import opened
from servable.workflows.outcomes import GeneratedClient

Language = Literal["python", "typescript"]

_GENERATORS = {"python": python_client, "typescript": typescript_client}


def generate_client(
    reference: str,
    language: Language = "python",
    *,
    output: str | Path | None = None,
    url: str | None = None,
    home: str | Path | None = None,
) -> GeneratedClient:
    """Write a typed client of one model, with its own names, choices and labels.

    Args:
        reference: ``name`` (the newest version of the home, or what the server serves), ``name:3`` or
            ``name@alias``.
        language: ``python`` or ``typescript``.
        output: the file to write; None writes none.
        url: a running server to ask for the signature, instead of a home.
        home: the folder of the registry; looked up when None.

    Raises:
        SettingInvalid: there is no such language.
        InputError: the reference is none.
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version or alias.
        RemoteError: the server refused, or answered with something else.
        ServerUnreachable: no server answers there.
        StorageFailed: the file cannot be written.
    """
    generator = _GENERATORS.get(language)
    if generator is None:
        known = ", ".join(_GENERATORS)
        raise SettingInvalid(f"There is no client in {language!r}; languages are {known}.")
    subject = _of_home(reference, home) if url is None else _of_server(reference, url)
    source = generator(subject)
    if output is not None:
        with storage_errors(f"writing the client {output}"):
            Path(output).parent.mkdir(parents=True, exist_ok=True)
            Path(output).write_text(source, encoding="utf-8")
    return GeneratedClient(
        model=subject.model,
        version=subject.version,
        package=subject.package,
        language=language,
        file="" if output is None else str(output),
        source=source,
    )


def _of_home(reference: str, home: str | Path | None) -> Subject:
    with opened(home) as place:
        record = place.models.resolve(reference)
        package = place.package(record)
        streams = bool(package.manifest.chosen.options.get(STREAMS))
        return Subject(record.model, record.version, package.digest, package.signature, streams)


def _of_server(reference: str, url: str) -> Subject:
    """What the server at an address serves under this reference.

    Raises:
        RemoteError: the server refused, or answered with something else.
        ServerUnreachable: nobody answers.
    """
    from servable.client import Client  # Here, because a home is read without it.

    with Client(url) as client:
        model = client.model(reference)
    return Subject(
        model.name,
        model.version or 0,
        str(model.details.get("package", "")),
        signature_of_server(model.details, url),
        bool(model.details.get("streams")),
    )


def signature_of_server(details: dict[str, Any], url: str) -> Signature:
    """The signature in a server's description of a model.

    Raises:
        RemoteError: it holds none that is known here.
    """
    try:
        return msgspec.convert(details["signature"], Signature)
    except (KeyError, msgspec.ValidationError) as strange:
        raise RemoteError(
            f"{url} describes the model without a signature that is known here; use the version of Servable "
            "that runs there.",
            200,
        ) from strange

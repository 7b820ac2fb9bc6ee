"""Every setting of a server: its name, its default, what it means and its limits."""

from typing import Any, NamedTuple

import msgspec

from servable.settings.addresses import masked_url

#: What the name of a setting begins with as a variable of the environment.
PREFIX = "SERVABLE_"


def _setting(default: Any, help_text: str, *, least: float | None = None, most: float | None = None) -> Any:
    """A field's declaration; its help and limits are kept beside it in ``_DECLARED``."""
    _DECLARED.append((default, help_text, least, most))
    return default


_DECLARED: list[tuple[Any, str, float | None, float | None]] = []


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Everything that a server can be told. See ``describe_settings`` for what each one means."""

    home: str = _setting(".servable", "Folder that holds the registry and the packages.")
    database_url: str = _setting("", "SQLAlchemy address of the registry; empty for SQLite inside the home.")
    blob_url: str = _setting(
        "",
        "fsspec address of a blob store, such as s3://bucket/servable, where all machines find packages and "
        "captured traffic; empty: they lie in the home alone.",
    )
    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(8000, "Port to listen on; 0 for any free one.", least=0, most=65535)
    insecure: bool = _setting(False, "Ask callers for no key, at any address, even where there are keys.")
    tls_cert: str = _setting(
        "",
        "File of the certificate, with those above it, in PEM; read again when it is renewed. Empty: no TLS.",
    )
    tls_key: str = _setting("", "File of the certificate's private key, in PEM and without a password.")
    tls_client_ca: str = _setting(
        "",
        "File of the authorities whose certificates of clients are accepted, in PEM, with their lists of "
        "revoked ones if there are any; read again when it changes. Empty: clients are asked for none.",
    )
    tls_client_auth: str = _setting(
        "optional", "optional or require: whether who shows no certificate can connect at all."
    )
    tls_client_map: str = _setting(
        "", "File (TOML or JSON) that says which scopes the names in certificates of clients have."
    )
    oidc_issuer: str = _setting(
        "", "Issuer of OpenID Connect whose tokens are accepted, exactly as in iss; empty for none."
    )
    oidc_audience: str = _setting("", "What tokens must name as their audience (aud).")
    oidc_jwks: str = _setting(
        "",
        "File or https address of the keys that sign tokens (JWKS). Empty: the issuer tells where they are.",
    )
    oidc_scope_claim: str = _setting(
        "scope", "Claim with scopes, roles or groups, such as realm_access.roles."
    )
    oidc_scope_map: str = _setting(
        "",
        "File (TOML or JSON) that says which scopes the values of that claim have. Empty: they are scopes.",
    )
    oidc_limits_claim: str = _setting(
        "", "Claim with an object of the subject's rate, quota and concurrency; empty: tokens set no limits."
    )
    signatures: str = _setting(
        "off",
        "off, warn or require: whether only versions that a trusted key signed are served; warn serves the "
        "others and says so in the log.",
    )
    trusted_keys: tuple[str, ...] = _setting(
        (), "Files of the public keys, in PEM, whose signatures of versions and rollbacks count."
    )
    sign_key: str = _setting(
        "",
        "File of a private key, in PEM, with which versions are signed as add, train, update, watch and "
        "optimize make them; servers need none. Empty: only what --sign-key asks for is signed.",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        "Host names answered to besides localhost; '*' for all. Empty: all unless bound to loopback.",
    )
    allowed_origins: tuple[str, ...] = _setting(
        (),
        "Origins of other pages that may send more than reading requests without a key in a header, such as "
        "https://app.example; '*' for all.",
    )
    max_body_bytes: int = _setting(
        64 * 1024 * 1024, "Largest request body, in bytes.", least=1024, most=2**31
    )
    max_rows: int = _setting(100_000, "Most rows in one request.", least=1, most=10_000_000)
    max_headers: int = _setting(100, "Most headers in one request.", least=10, most=10_000)
    max_header_bytes: int = _setting(
        32 * 1024, "Most bytes of headers in one request.", least=1024, most=2**24
    )
    max_depth: int = _setting(64, "Deepest nesting of JSON in a request.", least=4, most=512)
    workers: int = _setting(1, "HTTP processes on the one socket.", least=1, most=256)
    max_connections: int = _setting(
        10_000, "Most connections at once, all workers together.", least=1, most=1_000_000
    )
    header_timeout_s: float = _setting(
        10.0, "Seconds within which the headers of a request must arrive.", least=0.1, most=3600
    )
    body_grace_s: float = _setting(
        10.0, "Seconds after which a body must arrive at the least rate.", least=0.1, most=3600
    )
    min_body_rate: int = _setting(
        1000, "Least bytes per second of a body after its grace.", least=1, most=2**30
    )
    write_timeout_s: float = _setting(
        30.0, "Seconds without progress after which a reader of answers is dropped.", least=0.1, most=3600
    )
    keep_alive_s: float = _setting(
        75.0, "Seconds that a connection without a request stays open.", least=0.1, most=86_400
    )
    rate_per_address: str = _setting(
        "", "Requests of one address whose callers show no key, such as 100/s; empty: as many as come."
    )
    quota_per_address: str = _setting(
        "", "Likewise, requests of a day of UTC, such as 10k/day; empty: as many as come."
    )
    concurrency_per_address: int = _setting(
        0,
        "Requests at once of one address whose callers show no key. 0: as many as come.",
        least=0,
        most=1_000_000,
    )
    rate_per_subject: str = _setting(
        "",
        "Requests of each subject of tokens, and of each certificate, that has no limits of its own, such as "
        "100/s; empty: as many as come.",
    )
    quota_per_subject: str = _setting(
        "", "Likewise, requests of a day of UTC, such as 10k/day; empty: as many as come."
    )
    concurrency_per_subject: int = _setting(
        0, "Likewise, requests at once. 0: as many as come.", least=0, most=1_000_000
    )
    failures_per_address: str = _setting(
        "60/min",
        "Invalid keys that one address other than this machine may show before it is told to wait; "
        "valid ones are answered all the same. Empty: as many as come.",
    )
    request_timeout_s: float = _setting(
        60.0, "Longest a request may take when its caller asks for nothing less.", least=0.001, most=86_400
    )
    stream_timeout_s: float = _setting(
        600.0,
        "Longest an answer in pieces may take as a whole; request_timeout_s is the longest wait for a piece.",
        least=0.001,
        most=86_400,
    )
    queue_requests: int = _setting(
        1024, "Most requests that wait for one model, all workers together.", least=1, most=1_000_000
    )
    queue_s: float = _setting(
        5.0, "Longest expected wait for which a request is still taken in.", least=0.001, most=3600
    )
    memory: int = _setting(
        0,
        "Bytes that loaded models may hold together, such as 4GiB; models are then loaded on first use. "
        "0: no budget, every deployment is loaded at the start.",
        least=0,
        most=2**50,
    )
    accelerator_memory: int = _setting(
        0,
        "Bytes of each GPU's memory that loaded models may hold together, such as 10GiB; what does not fit "
        "runs on the processor. 0: what the GPU has, less a reserve.",
        least=0,
        most=2**50,
    )
    run_limit_s: float = _setting(
        30.0, "Seconds after which a run in a model process counts as hung.", least=0.01, most=86_400
    )
    start_limit_s: float = _setting(
        120.0,
        "Seconds within which a model must be loaded and have answered its example.",
        least=0.1,
        most=86_400,
    )
    process_memory: int = _setting(
        4 * 1024**3, "Bytes of memory at which a model process is replaced.", least=64 * 1024**2, most=2**50
    )
    confinement: str = _setting(
        "best",
        "How far model processes are kept from the network, files, programs and secrets: best (as far as "
        "this machine allows), require (wholly, or they are not loaded) or off.",
    )
    model_environment: tuple[str, ...] = _setting(
        (), "Names of further environment variables that model processes get."
    )
    model_files: tuple[str, ...] = _setting(
        (), "Files and folders that model processes may read besides their packages."
    )
    poll_s: float = _setting(0.25, "Seconds between looks for changed deployments.", least=0.01, most=3600)
    keep_warm_s: float = _setting(
        600.0,
        "Seconds for which the version before stays loaded after a switch, for a rollback without a load; "
        "under a memory budget it goes when others need the room. 0: not at all.",
        least=0,
        most=86_400,
    )
    watch: bool = _setting(
        True,
        "Start a process that follows rollouts, live quality and alerts while there is something to follow.",
    )
    health_route: str = _setting(
        "", "One more address that says whether the server is ready, such as /health; empty for none."
    )
    predict_route: str = _setting(
        "", "One more address for predictions of the default model, as Vertex AI asks; empty for none."
    )
    capture_interval_s: float = _setting(
        5.0, "Seconds after which captured requests and feedback become a segment.", least=0.05, most=3600
    )
    capture_segment_rows: int = _setting(
        10_000, "Captured rows that become a segment before that time is over.", least=1, most=10_000_000
    )
    capture_rows: int = _setting(
        200_000,
        "Most captured rows that wait in memory for the disk, all workers together; more are dropped.",
        least=1,
        most=100_000_000,
    )
    capture_memory: int = _setting(
        64 * 1024**2,
        "Most bytes that captured rows take in memory, all workers together; more are dropped.",
        least=1024,
        most=2**50,
    )
    capture_days: float = _setting(
        7.0, "Days for which captured traffic and feedback are kept.", least=0.01, most=36_500
    )
    k_anonymity: int = _setting(
        5,
        "Rows that a value must have to be named in profiles, signatures and reports of training.",
        least=1,
        most=1_000_000,
    )
    drain_s: float = _setting(
        0.0, "Seconds to keep answering, not ready, after a stop signal.", least=0, most=3600
    )
    shutdown_s: float = _setting(30.0, "Seconds that running requests get to end.", least=0, most=3600)
    alert_webhook: str = _setting("", "Address that alerts are posted to; empty for none.")
    alert_key: str = _setting(
        "", "What the HMAC signature of posted alerts is made with; empty: they are not signed."
    )
    audit_days: float = _setting(
        90.0,
        "Days for which the audit log is kept; a signed checkpoint takes the place of what is older.",
        least=1,
        most=36_500,
    )
    audit_ship: str = _setting(
        "",
        "Folder, or file to append to, that gets every signed checkpoint of the audit log; out of reach of "
        "whoever may write to the home. Empty: checkpoints are in the registry and in the log alone.",
    )
    log_level: str = _setting("info", "One of debug, info, warning, error.")
    log_format: str = _setting("text", "text for people, json for machines.")

    @property
    def scheme(self) -> str:
        """Of the server's addresses: ``https`` with a certificate, else ``http``."""
        return "https" if self.tls_cert else "http"

    def __repr__(self) -> str:
        """The settings without what must not be seen: passwords in addresses, and where alerts go."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        shown |= {name: masked_url(shown[name]) for name in ("database_url", "blob_url")}
        # The address of a webhook often is its password.
        hidden = {name: "***" for name in ("alert_webhook", "alert_key") if shown[name]}
        shown.update(hidden)
        return f"ServerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class SettingDescription(NamedTuple):
    """One setting for people: for the reference page and its test."""

    name: str
    variable: str
    type: str
    default: Any
    help: str
    least: float | None
    most: float | None


def describe_settings() -> tuple[SettingDescription, ...]:
    """Every setting, in the order of the record."""
    return tuple(
        SettingDescription(name, PREFIX + name.upper(), _type_word(default), default, help_text, least, most)
        for name, (default, help_text, least, most) in zip(
            ServerSettings.__struct_fields__, _DECLARED, strict=True
        )
    )


def _type_word(default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        return "whole number"
    if isinstance(default, float):
        return "number"
    return "list of texts" if isinstance(default, tuple) else "text"

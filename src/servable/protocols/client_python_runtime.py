"""What is the same in the Python clients of all models; § stands for the model's name."""

RUNTIME = '''
class §Detail(NamedTuple):
    """A value that does not fit: where it is, what was expected there, what came."""

    path: str
    expected: str
    got: str


class §Error(Exception):
    """No answer, and why.

    Attributes:
        code: stable, for programs: one of the server's codes, or ``server_unreachable`` (no answer in time),
            ``invalid_request`` (a value that JSON cannot carry), ``remote_error`` (something that is no
            answer), ``client_outdated`` (another version of the model, with other labels).
        message: one sentence for people.
        status: of HTTP; 0 when there was no answer.
        details: every value that does not fit.
        request_id: under which the server logged the request; may be empty.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 0,
        details: Sequence[§Detail] = (),
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.details = tuple(details)
        self.request_id = request_id


class §Client:
    """Asks a server for answers of the model.

    Threads may share a client. Connections are kept open between calls.

    Args:
        url: of the server.
        api_key: sent as ``Authorization: Bearer``.
        timeout: seconds for a call; the server is told, and gives up then as well.
        version: ask for exactly this version of the model; None takes whichever is deployed.

    Raises:
        §Error: the address is none.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        version: int | None = None,
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise §Error("invalid_setting", f"{url!r} is no address of a server.")
        self._url = url
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        pinned = "" if version is None else f"/versions/{version}"
        self._path = f"{parts.path.rstrip('/')}/models/{quote(MODEL)}{pinned}/predict"
        self._timeout = timeout
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._idle: list[http.client.HTTPConnection] = []

    def predict(self, row: §Row, *, timeout: float | None = None) -> §Answer:
        """The answer to one row.

        Args:
            row: its values by name; what may be missing may be left out.
            timeout: seconds for this call, instead of the client's.

        Raises:
            §Error: no answer; it says why.
        """
        content = self._ask({"input": _plain(row)}, "prediction", timeout)
        try:
            return _answer(content["prediction"], content.get("probabilities"), content)
        except (AttributeError, KeyError, TypeError, ValueError) as strange:
            raise _no_answer(200) from strange

    def predict_many(self, rows: Iterable[§Row], *, timeout: float | None = None) -> list[§Answer]:
        """The answers to several rows, in their order, from one request.

        Args:
            rows: as for ``predict``; no rows give no answers and ask nobody.
            timeout: seconds for this call, instead of the client's.

        Raises:
            §Error: no answer; it says why. One row that does not fit refuses them all.
        """
        sent = [_plain(row) for row in rows]
        if not sent:
            return []
        content = self._ask({"inputs": sent}, "predictions", timeout)
        try:
            predictions = content["predictions"]
            chances = content.get("probabilities") or [None] * len(predictions)
            pairs = zip(predictions, chances, strict=True)
            return [_answer(prediction, chance, content) for prediction, chance in pairs]
        except (AttributeError, KeyError, TypeError, ValueError) as strange:
            raise _no_answer(200) from strange

    def close(self) -> None:
        """Close the connections that are kept; the next call opens a new one."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, content: dict[str, Any], key: str, timeout: float | None) -> dict[str, Any]:
        body = _encoded(content)
        seconds = self._timeout if timeout is None else timeout
        try:
            status, data = self._send(body, seconds)
        except (http.client.HTTPException, OSError) as failure:
            why = str(failure) or type(failure).__name__
            message = f"{self._url} gave no answer ({why}); {seconds:g} s were allowed."
            raise §Error("server_unreachable", message) from failure
        try:
            answer = json.loads(data)
        except ValueError as strange:
            raise _no_answer(status) from strange
        if status != 200:
            raise _refusal(status, answer)
        if not isinstance(answer, dict) or key not in answer:
            raise _no_answer(status)
        return answer

    def _send(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        deadline = time.monotonic() + seconds
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("timed out")
            connection, kept = self._connection(remaining)
            headers = {**self._headers, "x-request-timeout-ms": str(max(1, int(remaining * 1000)))}
            try:
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                status, data = response.status, response.read()
                if connection.sock is not None:
                    self._idle.append(connection)
                return status, data
            except (http.client.HTTPException, OSError) as failure:
                connection.close()
                # The server may have closed a kept connection in the meantime. Predictions change
                # nothing, so asking again on a new one is safe.
                if not kept or isinstance(failure, TimeoutError):
                    raise
            except BaseException:
                # An interrupted connection still expects its answer and cannot be used again.
                connection.close()
                raise

    def _connection(self, seconds: float) -> tuple[http.client.HTTPConnection, bool]:
        try:
            connection = self._idle.pop()
        except IndexError:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            return kind(self._host, self._port, timeout=seconds), False
        connection.sock.settimeout(seconds)
        return connection, True


def _plain(row: §Row) -> dict[str, Any]:
    # JSON has no NaN; it stands for a missing value, which is null.
    return {
        name: None if isinstance(value, float) and value != value else value for name, value in row.items()
    }


def _encoded(content: dict[str, Any]) -> bytes:
    try:
        return json.dumps(content, default=_other, allow_nan=False).encode()
    except (TypeError, ValueError) as bad:
        raise §Error("invalid_request", f"JSON cannot carry a value of the row: {bad}.") from bad


def _other(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a {type(value).__name__}")


def _refusal(status: int, answer: Any) -> §Error:
    try:
        told = answer["error"]
        return §Error(
            told["code"],
            told["message"],
            status=status,
            details=[§Detail(each["path"], each["expected"], each["got"]) for each in told["details"]],
            request_id=told["request_id"],
        )
    except (KeyError, TypeError):
        return _no_answer(status)


def _no_answer(status: int) -> §Error:
    message = f"Something that is no answer of a Servable server came (status {status})."
    return §Error("remote_error", message, status=status)
'''

#: Only where labels are listed.
OUTDATED = """
def _outdated(labels: str) -> §Error:
    return §Error(
        "client_outdated",
        f"The model knows other labels than this client ({labels}); make the client anew, "
        f"or ask for version {VERSION}.",
        status=200,
    )
"""

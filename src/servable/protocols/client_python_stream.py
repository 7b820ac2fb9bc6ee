"""What the Python clients of models that answer in pieces have besides; § stands for the model's name."""

#: The method before which ``STREAM`` stands.
BEFORE_STREAM = "    def close(self)"

STREAM = '''\
    def stream(self, row: §Row, *, timeout: float | None = None) -> Generator[§Answer, None, None]:
        """The answer to one row in pieces, each as soon as the model has made it.

        The pieces of a text are put one behind the other; any other piece holds the next values. Closing
        the generator closes the connection, which stops the model.

        Args:
            row: as for ``predict``.
            timeout: seconds for all of it, which the server is told; without it the client's seconds are
                for the wait for each piece.

        Raises:
            §Error: no answer, or no more of it; it says why.
        """
        body = _encoded({"input": _plain(row)})
        headers = {**self._headers, "accept": "text/event-stream"}
        seconds = self._timeout if timeout is None else timeout
        if timeout is not None:
            headers["x-request-timeout-ms"] = str(max(1, int(timeout * 1000)))
        deadline = None if timeout is None else time.monotonic() + timeout
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=seconds)
        try:
            connection.request("POST", f"{self._path.removesuffix('predict')}stream", body, headers)
            response = connection.getresponse()
            if response.status != 200:
                raise _refusal(response.status, _read(response.read(), response.status))
            for name, text in _events(response):
                if name == "end":
                    return
                content = _read(text, 200)
                if name == "error":
                    raise _refusal(200, content)
                if not name:
                    yield _piece(content, response)
                if deadline is not None:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        raise TimeoutError("timed out")
                    if connection.sock is not None:
                        connection.sock.settimeout(remaining)
            raise http.client.HTTPException("it broke off")
        except (http.client.HTTPException, OSError) as failure:
            why = str(failure) or type(failure).__name__
            message = f"{self._url} gave no whole answer ({why}); {seconds:g} s were allowed."
            raise §Error("server_unreachable", message) from failure
        finally:
            connection.close()

'''

EVENTS = """
def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, bytes]]:
    name = ""
    data: list[bytes] = []
    for line in response:
        field, _, value = line.rstrip(b"\\r\\n").partition(b":")
        if field == b"event":
            name = value.strip().decode("ascii", "replace")
        elif field == b"data":
            data.append(value.removeprefix(b" "))
        elif not field and not value:
            if data:
                yield name, b"\\n".join(data)
            name, data = "", []


def _piece(content: Any, response: http.client.HTTPResponse) -> §Answer:
    try:
        of = {
            "model": response.headers["x-model-name"],
            "version": int(response.headers["x-model-version"]),
            "request_id": response.headers["x-request-id"],
        }
        return _answer(content["prediction"], content.get("probabilities"), of)
    except (AttributeError, KeyError, TypeError, ValueError) as strange:
        raise _no_answer(200) from strange


def _read(data: bytes, status: int) -> Any:
    try:
        return json.loads(data)
    except ValueError as strange:
        raise _no_answer(status) from strange
"""

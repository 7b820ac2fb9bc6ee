"""The course of a call: when it is repeated, how long it may take, what each attempt says."""

import httpx
import pytest

from servable.client import replies, wire
from servable.client.course import Course, Terms
from servable.errors import RemoteError, ServerUnreachable, SettingInvalid
from servable.testing import FakeClock

URL = "http://127.0.0.1:8000"
GOOD = b'{"prediction": 1, "model": "m", "version": 1, "request_id": "r"}'


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def terms(clock) -> Terms:
    return Terms(URL, 10.0, 3, clock)


def reply(status: int, content: bytes = b"{}", **headers: str) -> replies.Reply:
    return replies.Reply(
        status, httpx.Headers({name.replace("_", "-"): headers[name] for name in headers}), content
    )


def course(terms: Terms, **options: object) -> Course:
    return Course(wire.predict("m", [1.0]), terms, **options)


def test_each_attempt_tells_the_server_what_is_left(terms, clock):
    call = course(terms)
    assert call.attempt()["headers"]["x-request-timeout-ms"] == "10000"
    clock.advance(9.5)
    attempt = call.attempt()
    assert attempt["headers"]["x-request-timeout-ms"] == "500"
    assert attempt["extensions"]["timeout"].get("read") == pytest.approx(0.5)
    clock.advance(0.25)
    assert attempt["extensions"]["timeout"].get("read") == pytest.approx(0.25)
    clock.advance(5)
    assert call.attempt()["headers"]["x-request-timeout-ms"] == "1"


def test_a_call_may_have_a_time_of_its_own(terms):
    assert course(terms, timeout_s=0.25).attempt()["headers"]["x-request-timeout-ms"] == "250"
    assert course(terms, timeout_s=1e300).attempt()["headers"]["x-request-timeout-ms"] == str(10**11)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_that_is_none(terms, clock, seconds):
    with pytest.raises(SettingInvalid, match="above 0"):
        course(terms, timeout_s=seconds)
    with pytest.raises(SettingInvalid, match="above 0"):
        Terms(URL, seconds, 2, clock)


def test_retry_after_is_waited_for_in_full_and_never_beyond_the_time(terms, clock):
    call = course(terms)
    wait = call.wait_s(reply(503, retry_after="2"))
    assert wait is not None
    assert 2.0 <= wait <= 2.1
    clock.advance(wait)
    assert call.wait_s(reply(503, retry_after="8")) is None


def test_the_time_holds_over_all_attempts(terms, clock):
    call = course(terms)
    attempts = 1
    while (wait := call.wait_s(reply(503, retry_after="4"))) is not None:
        clock.advance(wait)
        attempts += 1
    assert attempts == 3
    with pytest.raises(RemoteError):
        call.result(reply(503))


@pytest.mark.parametrize(
    "outcome",
    [
        reply(200),
        reply(400),
        reply(422),
        reply(500),
        httpx.InvalidURL("no"),
        httpx.UnsupportedProtocol("no"),
        httpx.TooManyRedirects("no"),
        httpx.LocalProtocolError("no"),
        httpx.DecodingError("no"),
    ],
)
def test_what_another_attempt_would_not_change_is_not_repeated(terms, outcome):
    assert course(terms).wait_s(outcome) is None


@pytest.mark.parametrize(
    "outcome", [reply(429), reply(502), reply(503), reply(504), httpx.ConnectError("no")]
)
def test_what_passes_is_repeated_so_many_times(terms, outcome):
    call = course(terms)
    assert [call.wait_s(outcome) is not None for _ in range(4)] == [True, True, True, False]
    assert course(terms, patient=False).wait_s(outcome) is None


def test_all_calls_of_a_client_share_one_budget(terms):
    repeated = [course(terms).wait_s(reply(503)) is not None for _ in range(500)]
    assert 50 <= sum(repeated) <= 62
    assert all(repeated[:10])


def test_a_drip_ends_with_the_time(terms, clock):
    call = course(terms)
    response = httpx.Response(200, request=httpx.Request("POST", URL))
    call.check(response)
    clock.advance(10)
    with pytest.raises(httpx.ReadTimeout) as late:
        call.check(response)
    with pytest.raises(ServerUnreachable, match="within 10 s"):
        call.result(late.value)


def test_arrays_go_as_json_where_the_server_does_not_read_them(terms):
    numpy = pytest.importorskip("numpy")
    call = Course(wire.predict("m", numpy.ones((2, 3))), terms)
    assert call.attempt()["headers"]["content-type"] == "application/x-npy"
    assert call.wait_s(reply(415)) == 0.0
    assert call.attempt()["headers"]["content-type"] == "application/json"
    assert call.attempt()["content"] == b'{"inputs":[[1.0,1.0,1.0],[1.0,1.0,1.0]]}'
    assert call.wait_s(reply(415)) is None
    again = Course(wire.predict("m", numpy.ones((2, 3))), terms)
    assert again.attempt()["headers"]["content-type"] == "application/json"
    other = Course(wire.predict("other", numpy.ones((2, 3))), terms)
    assert other.attempt()["headers"]["content-type"] == "application/x-npy"

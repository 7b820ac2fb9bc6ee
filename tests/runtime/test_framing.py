"""Frames: whole however they arrive, and one clean error for everything that is none."""

import socket
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import ModelDied
from servable.runtime.framing import (
    HEAD_SIZE,
    LARGEST_AREA,
    LARGEST_META,
    LARGEST_PAYLOAD,
    Frame,
    FrameBuffer,
    Kind,
    encode,
    head,
    read_frame,
)

NUMBERS = st.integers(0, 2**64 - 1)
BYTES = st.binary(max_size=300)
FOLLOWING = st.builds(Frame, st.sampled_from(Kind), NUMBERS, BYTES, BYTES, st.just(-1))
ELSEWHERE = st.builds(
    Frame, st.sampled_from(Kind), NUMBERS, BYTES, st.just(b""), st.integers(0, LARGEST_AREA)
)
FRAMES = FOLLOWING | ELSEWHERE


def feed(buffer: FrameBuffer, data: bytes) -> list[Frame]:
    """Everything that becomes whole, room for room."""
    frames = []
    while data:
        room = buffer.room()
        assert len(room) > 0
        count = min(len(room), len(data))
        room[:count] = data[:count]
        room.release()
        buffer.received(count)
        data = data[count:]
        while (frame := buffer.take()) is not None:
            frames.append(frame)
    return frames


@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(1, 500), min_size=1, max_size=5))
def test_frames_are_whole_however_they_arrive(frames: list[Frame], pieces: list[int]) -> None:
    stream = b"".join(map(encode, frames))
    buffer = FrameBuffer()
    found: list[Frame] = []
    for count in cycle(pieces):
        if not stream:
            break
        found += feed(buffer, stream[:count])
        stream = stream[count:]
    assert found == frames
    assert not buffer.partial


@given(st.binary(min_size=HEAD_SIZE, max_size=200))
def test_noise_is_one_clean_error(noise: bytes) -> None:
    if noise.startswith(b"SVFR"):
        return
    with pytest.raises(ModelDied, match="no frame"):
        feed(FrameBuffer(), noise)


@given(FRAMES, st.integers(0, HEAD_SIZE - 1), st.integers(0, 255))
def test_a_changed_head_never_does_more_than_raise(frame: Frame, place: int, value: int) -> None:
    stream = bytearray(encode(frame))
    stream[place] = value
    try:
        feed(FrameBuffer(), bytes(stream))
    except ModelDied:
        return


@pytest.mark.parametrize(
    "start",
    [
        head(Kind.RUN, 1, LARGEST_META + 1, 0),
        head(Kind.RUN, 1, 0, LARGEST_PAYLOAD + 1),
        head(Kind.RUN, 1, 2**32 - 1, 2**63),
        head(Kind.RUN, 1, 0, 2**63, 1),
    ],
)
def test_a_length_beyond_its_bound_is_refused_before_there_is_room_for_it(start: bytes) -> None:
    buffer = FrameBuffer()
    with pytest.raises(ModelDied, match="too long"):
        feed(buffer, start)
    assert len(buffer.room()) < LARGEST_PAYLOAD


def test_the_largest_frame_passes() -> None:
    frame = Frame(Kind.RUN, 7, b"m" * LARGEST_META, b"p" * LARGEST_PAYLOAD)
    assert feed(FrameBuffer(), encode(frame)) == [frame]


@pytest.mark.parametrize("part", [0, 1, HEAD_SIZE - 1, HEAD_SIZE, HEAD_SIZE + 5])
def test_an_end_in_the_middle_of_a_frame_is_an_end(part: int) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(encode(Frame(Kind.RUN, 1, b"meta", b"payload"))[:part])
        theirs.close()
        assert read_frame(ours, FrameBuffer()) is None


def test_a_reader_waits_for_the_rest() -> None:
    frame = Frame(Kind.ANSWER, 3, b"meta", b"payload")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(encode(frame) + encode(frame))
        buffer = FrameBuffer()
        assert read_frame(ours, buffer) == frame
        assert read_frame(ours, buffer) == frame

"""The queue of a batcher, and who leaves it next. Pure: a value with rules, no clock and no loop.

Requests of one weight stand in one lane, in the order of arrival. Lanes are served by stride: serving
rows moves a lane's pass forward by rows over weight, and the lane with the lowest pass goes next. So a
lane of twice the weight gets twice the rows while both have some, and none starves. A lane that was
empty starts where the others are: what it did not use it cannot save up.

Requests leave lazily: one that was cancelled stays in its lane, is no longer counted, and is passed over.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from servable.runtime.batch_policy import Cap
from servable.runtime.waiting import OVER, QUEUED, RUNNING, Part, Split, Waiting

#: How many requests of another form a batch looks past for one of its own.
_LOOK_PAST = 256
#: So many lanes are kept although they are empty, so that what they used is remembered.
_KEPT_LANES = 16
#: So many that left are passed over lazily before the lanes are cleaned.
_UNSWEPT = 64
#: Weights outside are taken as the nearest inside.
_WEIGHTS = (1e-3, 1e3)


class _Lane:
    __slots__ = ("passed", "queue", "weight")

    def __init__(self, weight: float, passed: float) -> None:
        self.weight = weight
        self.passed = passed
        self.queue: deque[Waiting] = deque()


class Line:
    """Who waits. Belongs to one task.

    Attributes:
        requests: how many wait; one that runs in parts counts until its last part was taken.
        rows: how many rows wait.
    """

    __slots__ = ("_form", "_gone", "_heeds_forms", "_lane", "_lanes", "_passed", "requests", "rows")

    def __init__(self) -> None:
        self.requests = 0
        self.rows = 0
        self._form: list[object] = []
        self._heeds_forms = False
        self._gone = 0
        self._passed = 0.0
        self._lane = _Lane(1.0, 0.0)
        self._lanes = {1.0: self._lane}

    def __iter__(self) -> Iterator[Waiting]:
        """Those who wait: lane by lane, in the order of arrival."""
        for lane in self._lanes.values():
            for waiting in lane.queue:
                if waiting.state == QUEUED:
                    yield waiting

    def add(self, waiting: Waiting) -> None:
        """Somebody comes; the last of their lane."""
        if self._heeds_forms:
            waiting.form = self._form_of(waiting)
        waiting.state = QUEUED
        lane = self._lane
        if waiting.weight != lane.weight:
            lane = self._lane = self._lane_of(waiting)
        queue = lane.queue
        if not queue and lane.passed < self._passed:
            lane.passed = self._passed
        queue.append(waiting)
        self.requests += 1
        self.rows += waiting.rows

    def heed_forms(self) -> None:
        """Requests differ in names, dtypes or shapes: from now on only equal ones are taken together.

        Until then that costs nothing.
        """
        self._heeds_forms = True
        for waiting in self:
            waiting.form = self._form_of(waiting)

    def drop(self, waiting: Waiting) -> None:
        """Somebody who waits leaves: cancelled, expired, or a part of it failed."""
        waiting.state = OVER
        self.requests -= 1
        self.rows -= waiting.rows if waiting.split is None else waiting.split.remaining
        self._gone += 1
        self._tidy()

    def take(self, cap: Cap, urgent: Sequence[Waiting] = ()) -> list[Waiting]:
        """The next batch: requests of one form, or a part of a large one, at most ``cap.rows`` rows.

        Those taken are ``RUNNING``. A request that is larger than the cap gives one part and, while rows
        remain, goes behind the others of its lane: it takes turns with them.

        Args:
            cap: how large the batch may be.
            urgent: these go first, whatever their lane.
        """
        if urgent or len(self._lanes) > 1:
            return self._take_fairly(cap, urgent)
        lane = self._lane
        queue = lane.queue
        most, enough = cap
        batch: list[Waiting] = []
        passed_over: list[Waiting] = []
        rows = 0
        form = None
        while queue and rows < enough:
            waiting = queue.popleft()
            if waiting.state != QUEUED:
                self._gone -= 1
                continue
            if batch:
                if waiting.form is not form and waiting.form != form:
                    passed_over.append(waiting)
                    if len(passed_over) > _LOOK_PAST:
                        break
                    continue
                if rows + _remaining(waiting) > most:
                    queue.appendleft(waiting)
                    break
            else:
                form = waiting.form
            if waiting.split is None and waiting.rows <= most:
                waiting.state = RUNNING
                rows += waiting.rows
                self.requests -= 1
                batch.append(waiting)
                continue
            part = self._part(waiting, most)
            rows += part.rows
            batch.append(part)
            if waiting.state == QUEUED:
                queue.append(waiting)
        queue.extendleft(reversed(passed_over))
        self.rows -= rows
        self._passed = lane.passed = lane.passed + rows / lane.weight
        return batch

    def _take_fairly(self, cap: Cap, urgent: Sequence[Waiting]) -> list[Waiting]:
        """As ``take``, for several lanes, or when some cannot wait."""
        most, enough = cap
        batch: list[Waiting] = []
        rows = 0
        looked_past = 0
        for waiting in self._in_turn(urgent):
            if batch:
                if waiting.form != batch[0].form:
                    looked_past += 1
                    if looked_past > _LOOK_PAST:
                        break
                    continue
                if rows + _remaining(waiting) > most:
                    break
            lane = self._lanes[waiting.weight]
            if waiting.split is None and waiting.rows <= most:
                waiting.state = RUNNING
                self.requests -= 1
                self._gone += 1
                taken = waiting
            else:
                taken = self._part(waiting, most)
                if waiting.state == QUEUED:
                    lane.queue.remove(waiting)
                    lane.queue.append(waiting)
                else:
                    self._gone += 1
            batch.append(taken)
            rows += taken.rows
            self._passed = max(self._passed, lane.passed)
            lane.passed += taken.rows / lane.weight
            if rows >= enough:
                break
        self.rows -= rows
        self._tidy()
        return batch

    def _in_turn(self, urgent: Sequence[Waiting]) -> Iterator[Waiting]:
        """Those who wait in the order in which they should go; who was taken meanwhile moves its lane on."""
        for waiting in urgent:
            if waiting.state == QUEUED:
                yield waiting
        lanes = [(lane, iter(lane.queue)) for lane in self._lanes.values() if lane.queue]
        while lanes:
            nearest = min(lanes, key=_passed)
            for waiting in nearest[1]:
                if waiting.state == QUEUED:
                    yield waiting
                    break
            else:
                lanes.remove(nearest)

    def _form_of(self, waiting: Waiting) -> list[object]:
        form = form_of(waiting)
        # Equal forms become one object, so that taking compares identities.
        if form != self._form:
            self._form = form
        return self._form

    def _part(self, waiting: Waiting, most: int) -> Part:
        """The next part of a request that is too large; with its last one it no longer waits."""
        split = waiting.split
        if split is None:
            split = waiting.split = Split(waiting)
        part = split.next_part(min(split.remaining, most))
        part.state = RUNNING
        if not split.remaining:
            waiting.state = RUNNING
            self.requests -= 1
        return part

    def _lane_of(self, waiting: Waiting) -> _Lane:
        weight = waiting.weight = _weight(waiting)
        lane = self._lanes.get(weight)
        if lane is None:
            lane = self._lanes[weight] = _Lane(weight, self._passed)
        return lane

    def _tidy(self) -> None:
        """Let go of those who left, when they are many, and of lanes that nobody needs."""
        if self._gone > _UNSWEPT and self._gone > self.requests:
            for lane in self._lanes.values():
                lane.queue = deque(waiting for waiting in lane.queue if waiting.state == QUEUED)
            self._gone = 0
        if len(self._lanes) > 1:
            idle = [lane for lane in self._lanes.values() if not lane.queue and lane is not self._lane]
            spare = len(self._lanes) - _KEPT_LANES
            for lane in sorted(idle, key=_pass):
                if lane.passed <= self._passed or spare > 0:
                    del self._lanes[lane.weight]
                    spare -= 1


def form_of(waiting: Waiting) -> list[object]:
    """What requests must have in common to share a batch: names, dtypes and trailing shapes."""
    form: list[object] = []
    for name, array in waiting.arrays.items():
        form += (name, array.dtype, array.shape[1:])
    return form


def by_form(batch: Sequence[Waiting]) -> list[list[Waiting]]:
    """A batch in groups of one form each, in the order of their first members."""
    groups: list[tuple[list[object], list[Waiting]]] = []
    for waiting in batch:
        form = form_of(waiting)
        group = next((group for known, group in groups if known == form), None)
        if group is None:
            groups.append((form, [waiting]))
        else:
            group.append(waiting)
    return [group for _, group in groups]


def _remaining(waiting: Waiting) -> int:
    return waiting.rows if waiting.split is None else waiting.split.remaining


def _weight(waiting: Waiting) -> float:
    least, most = _WEIGHTS
    return min(most, max(least, waiting.weight))


def _pass(lane: _Lane) -> float:
    return lane.passed


def _passed(lane: tuple[_Lane, Iterator[Waiting]]) -> float:
    return lane[0].passed

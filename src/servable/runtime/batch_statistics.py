"""What a batcher has done and how it stands."""

import msgspec

from servable.runtime.executor import ExecutorStatistics


class BatchStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a batcher has done and how it stands; tests, status and metrics read this same record.

    Attributes:
        name: the model.
        queued_requests: requests that wait.
        queued_rows: rows that wait.
        running: batches in the executor.
        retrying: batches that are to be tried again.
        requests: requests accepted so far.
        batches: batches that were answered.
        rows: rows in them.
        failed_batches: batches that ended with an error.
        died_batches: batches whose process died.
        split: parts of requests that were larger than a batch may be.
        refused: requests refused because the queue was full or their time too short.
        poisoned: requests refused as poison.
        fixed_s: what a batch costs whatever its size, in seconds.
        row_s: what each row adds, in seconds.
        samples: runs that the two are fitted to.
        cap_rows: most rows in the next batch.
        enough_rows: no further request is added to a batch that has so many rows.
        executor: the executor's own figures.
    """

    name: str
    queued_requests: int
    queued_rows: int
    running: int
    retrying: int
    requests: int
    batches: int
    rows: int
    failed_batches: int
    died_batches: int
    split: int
    refused: int
    poisoned: int
    fixed_s: float
    row_s: float
    samples: int
    cap_rows: int
    enough_rows: int
    executor: ExecutorStatistics

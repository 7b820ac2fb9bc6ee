"""For tests, ours and yours: one fake and one conformance check for each seam.

A fake is a real, small implementation that passes the check of its seam. A check takes an
implementation, tries everything that the seam promises, and raises ``AssertionError`` with one
sentence where a promise is broken. Nothing outside tests imports this package.
"""

from servable.testing.adapters import FakeAdapter, check_adapter, check_form
from servable.testing.clocks import FakeClock, check_clock
from servable.testing.codecs import FakeCodec, check_codec
from servable.testing.engines import FakeEngine, check_engine
from servable.testing.executors import FakeExecutor, check_executor, check_streams
from servable.testing.gpus import FakeGpus
from servable.testing.predictors import CountingPredictor, FakePredictor, fake_signature
from servable.testing.progress import RecordedProgress
from servable.testing.taps import check_tap

__all__ = [
    "CountingPredictor",
    "FakeAdapter",
    "FakeClock",
    "FakeCodec",
    "FakeEngine",
    "FakeExecutor",
    "FakeGpus",
    "FakePredictor",
    "RecordedProgress",
    "check_adapter",
    "check_clock",
    "check_codec",
    "check_engine",
    "check_executor",
    "check_form",
    "check_streams",
    "check_tap",
    "fake_signature",
]

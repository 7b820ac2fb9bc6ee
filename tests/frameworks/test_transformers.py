import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.frameworks.transformers import PARTS, DateParts


@given(st.datetimes(pd.Timestamp("1600-01-01"), pd.Timestamp("2600-01-01")))
def test_the_parts_are_those_of_the_calendar(moment):
    stamp = pd.Timestamp(moment).floor("s")
    seconds = np.array([[stamp.tz_localize("UTC").timestamp()]])
    parts = dict(zip(PARTS, DateParts().fit(seconds).transform(seconds)[0].tolist(), strict=True))
    assert parts == {
        "days": (stamp.normalize() - pd.Timestamp("1970-01-01")).days,
        "year": stamp.year,
        "month": stamp.month,
        "day": stamp.day,
        "weekday": moment.weekday(),
        "hour": stamp.hour,
    }


def test_missing_stays_missing_and_columns_keep_their_names():
    frame = pd.DataFrame({"sold": [np.nan, 0.0]})
    parts = DateParts().fit(frame)
    assert np.isnan(parts.transform(frame)[0]).all()
    assert parts.get_feature_names_out().tolist() == [f"sold_{part}" for part in PARTS]
    assert DateParts().fit(np.zeros((1, 1))).get_feature_names_out().tolist()[1] == "x0_year"


def test_another_number_of_columns_is_refused():
    with pytest.raises(ValueError, match="1 columns"):
        DateParts().fit(np.zeros((1, 1))).transform(np.zeros((1, 2)))

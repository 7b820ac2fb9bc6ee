"""The native format: ``POST /models/NAME/predict``, ``/models/NAME/versions/V/predict`` and ``/predict``."""

import re

from servable.server.checks import codec_for
from servable.server.formats.base import Door, Format

DOORS = (
    Door(
        re.compile(r"/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/predict"),
        lambda live, head: codec_for(live.codecs, head),
    ),
    Door(re.compile(r"/predict"), lambda live, head: codec_for(live.codecs, head)),
)
FORMAT = Format("native", DOORS)

"""The rows of a turn: those that the recipe names and the labelled traffic, in order of time."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from servable.artifact.recipe import Recipe
from servable.artifact.signature import Field, Signature, is_table
from servable.errors import DataError, SettingInvalid
from servable.registry.home import Home
from servable.workflows.sources import file_digest, need_extra

if TYPE_CHECKING:
    import pandas as pd

    from servable.monitoring.segment_cache import SegmentCache

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
#: A column of the staged rows that no data has: the moment of a row of traffic, in microseconds since 1970.
AT = "\0at"


class Labelled(NamedTuple):
    """Labelled traffic, the newest last.

    Attributes:
        frame: the model's inputs, the target, and ``AT``.
        labelled_until: the moment of the newest label, in microseconds since 1970; 0 without any.
        strange: labels that are no answer to this model's question, and were left out.
    """

    frame: "pd.DataFrame"
    labelled_until: int
    strange: int


def check_kind(
    signature: Signature, recipe: Recipe | None, reference: str, *, online: bool = False
) -> Recipe:
    """The recipe of a version that can be trained again.

    Args:
        signature: of the version.
        recipe: of the version; None for one that was trained elsewhere.
        reference: the version, for the sentence.
        online: whether it is to learn on, for which traffic is enough and no recipe is needed.

    Raises:
        SettingInvalid: it cannot; the sentence says why.
    """
    if recipe is None and not online:
        raise SettingInvalid(
            f"{reference} was not trained here, so there is no recipe to train it again by; "
            "train it with servable train first, or let it learn on with --online if it can."
        )
    hidden = [field.name for field in signature.inputs if field.captured in ("drop", "hash")]
    if hidden:
        raise SettingInvalid(
            f"The column {hidden[0]!r} of {reference} is left out or hashed where traffic is captured, "
            "so nothing can be learned from traffic."
        )
    if signature.task not in ("classification", "regression") or not is_table(signature.inputs):
        raise SettingInvalid(
            f"{reference} does {signature.task}, and a turn needs a classifier or a regressor of tables, "
            "whose answers can be right or wrong."
        )
    return recipe or Recipe(target=signature.answer.name)


def original(recipe: Recipe, signature: Signature, data: Path | None) -> "pd.DataFrame":
    """The rows that the recipe was first made with, as inputs and target.

    Args:
        recipe: says where they lie.
        signature: of the present version.
        data: where they lie now, if that is another place.

    Raises:
        FileMissing: they are not there any more.
        DataError: the file is not the one that was learned from; nothing is learned from it unasked.
    """
    need_extra()
    from servable.training.data import in_order, read_table

    path = data or (Path(recipe.data) if recipe.data else None)
    if path is None:
        return _shaped(None, signature)
    if data is None and recipe.sha256 and path.is_file() and file_digest(path) != recipe.sha256:
        raise DataError(
            f"{path} is not the file any more that the model was trained on (its digest differs); "
            "give the rows to learn from with --data."
        )
    frame, _ = in_order(read_table(path, signature=signature), recipe.time_order)
    target = signature.answer.name
    if target not in frame.columns:
        raise DataError(f"{path} has no column {target!r}, which the model predicts.")
    return _shaped(frame[frame[target].notna()], signature)


def labelled(home: Home, model: str, signature: Signature) -> Labelled:
    """Every row of a model's traffic whose right answer is known.

    Raises:
        DependencyMissing: pyarrow is not installed.
        StorageFailed: the traffic cannot be read.
    """
    need_extra()
    from servable.monitoring.joined import joined
    from servable.monitoring.segments import TrafficStore

    columns = [f"in.{field.name}" for field in signature.inputs]
    return of_table(joined(TrafficStore(home.path, keys=home.subjects), model, columns=columns), signature)


def fresh(home: Home, model: str, since: int, known: "SegmentCache | None" = None) -> int:
    """How many rows of a model's traffic were labelled after a moment.

    Args:
        home: where.
        model: whose.
        since: microseconds since 1970; 0 for all.
        known: what was read of segments before, so that only new ones are opened, while labels that come late
            or correct others are joined anew; the same at every call, or None to read all of them.

    Raises:
        DependencyMissing: pyarrow is not installed.
        StorageFailed: the traffic cannot be read.
    """
    need_extra()
    from servable.monitoring.joined import joined
    from servable.monitoring.segment_cache import SegmentCache
    from servable.monitoring.segments import TrafficStore

    cache = SegmentCache() if known is None else known
    table = joined(cache.of(TrafficStore(home.path, keys=home.subjects)), model, columns=())
    if "outcome" not in table.column_names:
        return 0
    frame = table.select(["request_id", "row", "outcome", "labelled_at"]).filter(table["outcome"].is_valid())
    rows = frame.to_pandas().drop_duplicates(["request_id", "row"])
    return int((_microseconds(rows["labelled_at"]) > since).sum())


def of_table(table: Any, signature: Signature) -> Labelled:
    """The labelled rows of a joined table; see ``monitoring.joined``.

    A row that several versions answered counts once. Rows that an older version answered without an input
    that this one has hold a missing value there.

    Raises:
        DataError: no row at all has one of the inputs.
    """
    import numpy as np
    import pandas as pd

    wanted = ["request_id", "row", "at", "outcome", "labelled_at"]
    if not table.num_rows or any(name not in table.column_names for name in wanted):
        return Labelled(_shaped(None, signature), 0, 0)
    absent = [field.name for field in signature.inputs if f"in.{field.name}" not in table.column_names]
    if absent:
        raise DataError(
            f"No captured row has the column {absent[0]!r}, so nothing can be learned from them; it is left "
            "out where traffic is captured, or nobody sent it yet."
        )
    frame = table.filter(table["outcome"].is_valid()).to_pandas()
    frame = frame.drop_duplicates(["request_id", "row"], keep="last").sort_values(
        ["at", "request_id", "row"], kind="stable", ignore_index=True
    )
    moments = {name: _microseconds(frame[name]) for name in ("at", "labelled_at")}
    answers = [typed(str(text), signature.answer) for text in frame["outcome"]]
    known = np.asarray([answer is not None for answer in answers], bool)
    until = int(moments["labelled_at"].max()) if len(frame) else 0
    values = pd.DataFrame(
        {field.name: frame[f"in.{field.name}"] for field in signature.inputs}, index=frame.index
    ).assign(**{signature.answer.name: pd.Series(answers, dtype=object)})
    shaped = _shaped(values[known], signature)
    return Labelled(shaped.assign(**{AT: moments["at"][known]}), until, int((~known).sum()))


def joint(first: "pd.DataFrame", traffic: "pd.DataFrame") -> "pd.DataFrame":
    """Original rows, which have no moment, and those of traffic after them."""
    import pandas as pd

    first = first.assign(**{AT: 0}) if AT not in first.columns else first
    parts = [part for part in (first, traffic) if len(part)]
    if not parts:
        return first
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0].reset_index(drop=True)


def typed(text: str, field: Field) -> Any:
    """A fed-back outcome as the target's own type; None where it can be no answer.

    A label that the model does not know is one all the same: the world may have got a new class.
    """
    text = text.strip()
    if field.kind == "number":
        try:
            value = float(text)
        except ValueError:
            return None
        return value if value - value == 0 else None
    if field.dtype == "str":
        return text or None
    if field.dtype == "bool":
        folded = text.casefold()
        return True if folded in _TRUE else False if folded in _FALSE else None
    try:
        number = float(text)
    except ValueError:
        return None
    if field.dtype == "int64":
        return int(number) if number.is_integer() else None
    return number


def moment(microseconds: int) -> str:
    """A moment as ISO 8601 in UTC with microseconds; empty for 0."""
    if not microseconds:
        return ""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds")


def microseconds_of(text: str) -> int:
    """The reverse of ``moment``."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6) if text else 0


def _microseconds(column: "pd.Series[Any]") -> Any:
    return column.astype("datetime64[us, UTC]").astype("int64").to_numpy()


def _shaped(frame: "pd.DataFrame | None", signature: Signature) -> "pd.DataFrame":
    """Rows as the signature types them, with the target; empty for None.

    Whatever they came from, rows of a file and rows of traffic have the same columns of the same types. What
    a version refuses or has never seen may be in them all the same.
    """
    import pandas as pd
    from msgspec.structs import replace

    from servable.frameworks.frame import pack, to_frame

    target = signature.answer.name
    if frame is None or not len(frame):
        return pd.DataFrame(columns=[*(field.name for field in signature.inputs), target])
    fields = tuple(replace(field, missing=True, unknown="accept") for field in signature.inputs)
    loose = replace(signature, inputs=fields)
    shaped = to_frame(pack(frame.reset_index(drop=True), loose), loose, "pandas")
    return shaped.assign(**{target: frame[target].to_numpy()})

"""Which codec reads which content type, for one signature."""

from collections.abc import Mapping

import msgspec

from servable.artifact.signature import Signature
from servable.errors import MediaTypeUnsupported
from servable.protocols import answer_forms as forms
from servable.protocols.base import Codec, CodecLimits, Maker
from servable.protocols.files import lone_file
from servable.protocols.native import MAX_ROWS, native_codec
from servable.protocols.native_array import WholeArray
from servable.protocols.native_binary import NpyCodec, RawCodec
from servable.protocols.native_bytes import AnyBytesCodec, BytesCodec, takes_bytes
from servable.protocols.native_columns import ArrowCodec, ParquetCodec
from servable.protocols.native_csv import CsvCodec
from servable.protocols.native_depth import MAX_DEPTH
from servable.protocols.native_form import FormCodec
from servable.protocols.native_lines import LineCodec
from servable.protocols.native_msgpack import MsgpackCodec

JSON = forms.JSON
RAW = "application/octet-stream"
NPY = forms.NPY
LINES = forms.LINES
FORM = "multipart/form-data"
IMAGE, AUDIO = "image/*", "audio/*"
#: Content types that every signature is read in; see ``read_types``.
_ALWAYS = (LINES, forms.CSV, forms.ARROW, forms.PARQUET, forms.MSGPACK, FORM)


def native_codecs(
    signature: Signature, *, max_rows: int = MAX_ROWS, max_depth: int = MAX_DEPTH
) -> dict[str, Codec]:
    """The codecs of the native addresses that every model has ready; JSON is always among them.

    Args:
        signature: what the model takes and gives.
        max_rows: more rows in one request are refused.
        max_depth: JSON that is nested deeper is refused.
    """
    native = native_codec(signature, max_rows=max_rows, max_depth=max_depth)
    codecs: dict[str, Codec] = {JSON: native}
    whole = WholeArray.of(signature)
    if whole is not None:
        if whole.fixed:
            codecs[RAW] = RawCodec(native, whole, max_rows=max_rows)
        codecs[NPY] = NpyCodec(native, whole, max_rows=max_rows)
    if lone_file(signature) is not None:
        codecs[RAW] = AnyBytesCodec(signature, codecs.get(RAW))
    return codecs


class Reads(msgspec.Struct, frozen=True):
    """Makes the codec of one content type; equal ones make equal codecs, see ``base.Maker``.

    Attributes:
        media_type: one of those that ``read_types`` names besides those of ``native_codecs``.
    """

    media_type: str

    def __call__(self, signature: Signature, limits: CodecLimits) -> Codec:
        """The codec for a signature.

        Raises:
            MediaTypeUnsupported: the signature is not read in it.
        """
        if self.media_type == FORM:
            return FormCodec(signature, limits.max_rows, _Files(signature, limits).codec)
        if self.media_type in _files_of(signature) or (self.media_type == RAW and takes_bytes(signature)):
            return BytesCodec(signature)
        makers: dict[str, Maker] = {
            LINES: LineCodec,
            forms.CSV: CsvCodec,
            forms.ARROW: ArrowCodec,
            forms.PARQUET: ParquetCodec,
            forms.MSGPACK: MsgpackCodec,
        }
        made = makers.get(self.media_type)
        if made is None:
            raise unsupported(signature, self.media_type)
        return made(signature, limits)


class _Files:
    """The codecs of the files in forms; each is made when such a file first comes."""

    def __init__(self, signature: Signature, limits: CodecLimits) -> None:
        self._signature = signature
        self._limits = limits
        self._made: Mapping[str, Codec] = {}

    def codec(self, content_type: str) -> Codec:
        """The codec of a content type.

        Raises:
            MediaTypeUnsupported: the signature is not read in it.
        """
        media_type = canonical(content_type)
        made = self._made.get(media_type)
        if made is None:
            limits = self._limits
            ready = native_codecs(self._signature, max_rows=limits.max_rows, max_depth=limits.max_depth)
            made = ready.get(media_type) or Reads(media_type)(self._signature, limits)
            # Replaced and not changed, so that two threads may come here at once.
            self._made = {**self._made, media_type: made}
        return made


def canonical(content_type: str) -> str:
    """The name under which a content type is known here.

    Args:
        content_type: in small letters, without parameters.
    """
    kind = content_type.partition("/")[0]
    if content_type == "application/x-image":
        # As containers of SageMaker call every picture.
        return IMAGE
    if kind in ("image", "audio"):
        return f"{kind}/*"
    return forms.ALIASES.get(content_type, content_type)


def read_types(signature: Signature) -> tuple[str, ...]:
    """Every content type in which rows for a signature are read, JSON first."""
    whole = WholeArray.of(signature)
    found = [JSON]
    files = _files_of(signature)
    if files or (whole is not None and whole.fixed):
        found.append(RAW)
    if whole is not None:
        found.append(NPY)
    return (*found, *_ALWAYS, *files)


def _files_of(signature: Signature) -> tuple[str, ...]:
    """The content types of files that are one row as they are."""
    field = lone_file(signature)
    if field is not None:
        return (IMAGE,) if field.kind == "image" else (AUDIO,)
    return (IMAGE, AUDIO) if takes_bytes(signature) else ()


def unsupported(signature: Signature, media_type: str) -> MediaTypeUnsupported:
    """The error for a content type in which a signature is not read."""
    known = ", ".join(read_types(signature))
    if media_type in (IMAGE, AUDIO):
        count = len(signature.inputs)
        taken = "1 input" if count == 1 else f"{count} inputs"
        names = ", ".join(field.name for field in signature.inputs[:4]) + (", ..." if count > 4 else "")
        kinds = "pictures" if media_type == IMAGE else "sound"
        return MediaTypeUnsupported(
            f"This model takes {taken} ({names}) and no bodies of {kinds}; send one of {known}."
        )
    return MediaTypeUnsupported(f"The content type is none of {known}; send one of them as Content-Type.")

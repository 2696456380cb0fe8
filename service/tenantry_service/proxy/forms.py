"""Finding the field ``model`` in a multipart form while it passes (RFC 7578, RFC 2046 5.1). Pure.

Nothing is held but a delimiter's length and the headers of a part; the result does not depend on how the form is cut.
"""

import enum
import re

from tenantry_service import errors
from tenantry_service.errors import ApiError

#: The most of one part's headers.
MAX_PART_HEAD = 8 * 1024
#: The most of a field that is read; names of models are shorter.
MAX_VALUE = 512

_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb';\s*name=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_EXTENDED_NAME = re.compile(rb";\s*name\*", re.IGNORECASE)

BAD_FORM = errors.malformed("The multipart form cannot be read. Send it as RFC 7578 says.")
TWO_MODELS = errors.malformed("The form names its model twice; name it once.", param="model")


class _Where(enum.Enum):
    """What the scanner stands in front of."""

    PREAMBLE = enum.auto()
    HEAD = enum.auto()
    VALUE = enum.auto()
    OTHER = enum.auto()
    END = enum.auto()


class FormScanner:
    """One form. ``model`` is None until its field has been seen; ``value_at`` then says where it began and ended."""

    __slots__ = ("_buffer", "_delimiter", "_first", "_position", "_where", "error", "model", "value_at")

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may stand at the very beginning.
        self._buffer = b"\r\n"
        #: Offset in the form of the buffer's beginning.
        self._position = -2
        self._where = _Where.PREAMBLE
        self._first = True
        self.model: str | None = None
        self.value_at = (0, 0)
        #: Why this is no form that can be passed on.
        self.error: ApiError | None = None

    @property
    def ended(self) -> bool:
        """The closing delimiter was seen."""
        return self._where is _Where.END

    def feed(self, data: bytes) -> None:
        """Look at more of the form."""
        self._buffer += data
        while self.error is None and self._step():
            pass

    def _drop(self, size: int) -> None:
        self._buffer = self._buffer[size:]
        self._position += size

    def _step(self) -> bool:
        """Go on by one thing; False if more is needed first."""
        match self._where:
            case _Where.END:
                self._drop(len(self._buffer))
                return False
            case _Where.HEAD:
                return self._head()
            case _:
                return self._content()

    def _head(self) -> bool:
        """Behind a delimiter: the end of the form, or blanks, a line end and the headers of a part."""
        buffer = self._buffer
        if buffer.startswith(b"--"):
            self._where = _Where.END
            return True
        line = buffer.find(b"\r\n")
        end = buffer.find(b"\r\n\r\n", max(line, 0))
        if line > 0 and buffer[:line].strip(b" \t"):
            # It only looked like a delimiter to us; to another reader it might be one.
            self.error = BAD_FORM
            return False
        if end < 0:
            if len(buffer) > MAX_PART_HEAD:
                self.error = BAD_FORM
            return False
        self._where = _Where.VALUE if self._names_model(buffer[line + 2 : end]) else _Where.OTHER
        self._drop(end + 4)
        if self._where is _Where.VALUE:
            self.value_at = (self._position, 0)
        # An empty part's delimiter shares its line end with the headers.
        self._buffer = b"\r\n" + self._buffer
        self._position -= 2
        return self.error is None

    def _names_model(self, head: bytes) -> bool:
        for line in head.split(b"\r\n"):
            key, _, value = line.partition(b":")
            if key.strip().lower() != b"content-disposition":
                continue
            if _EXTENDED_NAME.search(value):
                self.error = BAD_FORM
                return False
            names = [quoted or bare for quoted, bare in _NAME.findall(value)]
            if len(names) > 1:
                self.error = BAD_FORM
            return names == [b"model"]
        return False

    def _content(self) -> bool:
        """Within a part, or before the first one: up to the next delimiter."""
        buffer = self._buffer
        found = buffer.find(self._delimiter)
        if found < 0:
            if self._where is _Where.VALUE:
                if len(buffer) > MAX_VALUE + len(self._delimiter):
                    self.error = errors.malformed("The field 'model' is too long.", param="model")
            elif len(buffer) > len(self._delimiter):
                self._drop(len(buffer) - len(self._delimiter))
            return False
        if self._where is _Where.VALUE:
            start = self.value_at[0]
            end = self._position + found
            if end - start > MAX_VALUE:
                self.error = errors.malformed("The field 'model' is too long.", param="model")
                return False
            self._take(buffer[2:found] if found >= 2 else b"", (start, max(start, end)))
        if self.error is not None:
            return False
        self._where = _Where.HEAD
        self._drop(found + len(self._delimiter))
        return True

    def _take(self, value: bytes, where: tuple[int, int]) -> None:
        if self.model is not None:
            self.error = TWO_MODELS
            return
        try:
            self.model = value.decode("utf-8").strip()
        except UnicodeDecodeError:
            self.error = errors.malformed("The field 'model' is not UTF-8.", param="model")
        self.value_at = where


def scanner(content_type: bytes) -> FormScanner | None:
    """A scanner for a body of this type; None if it is no multipart form."""
    if not content_type.lower().startswith(b"multipart/form-data"):
        return None
    found = _BOUNDARY.findall(content_type)
    return FormScanner(found[0][0] or found[0][1]) if len(found) == 1 else None

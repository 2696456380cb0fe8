"""Chat chunks that differ by their text only, told by their bytes. Pure.

A stream brings hundreds of them, and only the length of the text matters: what was decoded once need not be again.
"""

import re
from typing import Final

_END = b"}\n\n"
#: With what OpenAI puts behind, to hide how long the text is (``include_obfuscation``).
_PADDED_END = re.compile(rb',"obfuscation":"[^"\\\r\n]*"\}\n\n')
# Looked for as numbers: where it looks for bytes, ``in`` tries first whether they are one.
_BACKSLASH: Final = 0x5C
_LF: Final = 0x0A
_CR: Final = 0x0D


class Alike:
    """Events that differ by their text only. One that was decoded says where it stands; whatever is the same up to
    there and behind it means the same, and need not be decoded once more."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    def text_size(self, event: bytes) -> int:
        """The bytes of text of such an event, if ``event`` is one and nothing more; -1 if it is not."""
        if not event.startswith(self._before):
            return -1
        start = len(self._before)
        end = event.find(b'"', start)
        behind = end + len(self._after)
        if end < 0 or event[end:behind] != self._after:
            return -1
        text = event[start:end]
        if _BACKSLASH in text or _LF in text or _CR in text:
            return -1
        rest = event[behind:]
        return end - start if rest == _END or _PADDED_END.fullmatch(rest) is not None else -1


def learn(event: bytes, text: str) -> Alike | None:
    """What an event whose only content is this ``text`` has in common with its like; None if it cannot be said."""
    said = b'"content":"%b"' % text.encode("utf-8", "replace")
    start = event.find(said)
    end = start + len(said) - 1
    start += len(b'"content":"')
    padding = event.find(b',"obfuscation":"', end)
    after = event[end:padding] if padding >= 0 else event[end : -len(_END)]
    if not start < end or event.find(b'"content"', end) >= 0:
        return None
    alike = Alike(event[:start], after)
    return alike if alike.text_size(event) == end - start else None

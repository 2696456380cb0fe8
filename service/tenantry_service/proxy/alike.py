"""Chat chunks that differ by their text only, told by their bytes. Pure.

A stream brings hundreds of them, and only the length of the text matters: what was decoded once need not be again.
"""

import re

_END = b"}\n\n"
#: With what OpenAI puts behind, to hide how long the text is (``include_obfuscation``).
_PADDED_END = re.compile(rb',"obfuscation":"[^"\\\r\n]*"\}\n\n')


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
        if not event.startswith(self._after, end):
            # Also if ``end`` is -1.
            return -1
        text = event[start:end]
        if b"\\" in text or b"\n" in text or b"\r" in text:
            return -1
        rest = event[end + len(self._after) :]
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

"""Accounting of streams of chat chunks, and of those of legacy completions. Pure."""

import msgspec

from tenantry_service.proxy import alike
from tenantry_service.proxy import usage as usages
from tenantry_service.proxy.shapes import Choice, Chunk, Delta
from tenantry_service.proxy.sse import EventStream

_decoder = msgspec.json.Decoder(Chunk)
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class ChatStreamMeter(EventStream):
    """Chat chunks, and those of legacy completions."""

    __slots__ = ()

    def _account_large(self, start: bytes, end: bytes) -> None:
        # No chunk is that large; what one says of usage comes in a small one behind it.
        pass

    def _account_payload(self, payload: bytes) -> bool:
        try:
            chunk = _decoder.decode(payload)
        except _MALFORMED:
            self.deltas += 1
            return True
        if usages.given(chunk.error):
            self.failed = True
        if chunk.choices:
            self._count_choices(chunk.choices)
        if not usages.given(chunk.usage):
            if self._alike is None and not self.failed and chunk.choices is not None and len(chunk.choices) == 1:
                self._learn(payload, chunk.choices[0].delta)
            return True
        raw = bytes(chunk.usage)
        found = usages.parse(raw, chunk.service_tier)
        if found is not None:
            self.usage = found
            self.raw_usage = raw
        return not (self._strip and chunk.choices == [])

    def _learn(self, payload: bytes, delta: Delta | None) -> None:
        only_text = delta is not None and delta.content and not (delta.reasoning_content or delta.refusal)
        if only_text and delta is not None and not usages.given(delta.tool_calls):
            self._alike = alike.learn(b"data: %b\n\n" % payload, delta.content or "")

    def _count_choices(self, choices: list[Choice]) -> None:
        size = 0
        for choice in choices:
            delta = choice.delta
            if choice.text:
                size += len(choice.text.encode("utf-8", "replace"))
            if delta is None:
                continue
            for text in (delta.content, delta.reasoning_content, delta.refusal):
                if text:
                    size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            if usages.given(delta.tool_calls):
                size += len(bytes(delta.tool_calls))
        if size:
            self.deltas += 1
            self._bytes += size

"""The conversation of the benchmark: what is asked and answered, and how a stream says how long it shall be.

A chunk of a stream carries its number and the moment it was sent (CLOCK_MONOTONIC, which all processes of a machine
share), inside the content, where every gateway leaves it alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

#: The upstreams are told apart by the model: one answers at once, one streams.
MODEL = "gpt-4o-mini"
STREAM_MODEL = "gpt-4o"

#: A plain answer of some 650 bytes, like a short reply of a chat model.
ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench0000000000000000000000000",
        "object": "chat.completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "All work and no play makes a dull benchmark. " * 4},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 44,
            "total_tokens": 63,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_bench",
    },
    separators=(",", ":"),
)

_WISH = re.compile(rb"(\d{1,6}) chunks every (\d{1,6}) ms")

#: Number and nanoseconds of a chunk. What a read has cut in two is completed by the next one.
MARK = re.compile(rb"#(\d{6})@(\d{1,20})#")
#: Bytes of the longest mark, so of what has to be kept of one read for the next.
MARK_BYTES = 29


@dataclass(frozen=True)
class Wish:
    """A stream of `chunks` chunks, `gap_ms` milliseconds apart; the first comes at once."""

    chunks: int
    gap_ms: int

    def prompt(self) -> str:
        return f"Write me {self.chunks} chunks every {self.gap_ms} ms, please."


def wish_of(body: bytes) -> Wish:
    """Read what a request asks for; one that does not say gets a single chunk."""
    found = _WISH.search(body)
    return Wish(int(found[1]), int(found[2])) if found else Wish(1, 0)


def plain_request(model: str) -> str:
    """Return the body of a request for a plain answer, as the OpenAI SDK would send it."""
    return _request(model, "Say something about benchmarks.", stream=False)


def stream_request(model: str, wish: Wish) -> str:
    """Return the body of a request for a stream."""
    return _request(model, wish.prompt(), stream=True)


def _request(model: str, prompt: str, *, stream: bool) -> str:
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": prompt}]
    document: dict[str, object] = {"messages": messages, "model": model, "max_tokens": 256, "temperature": 0.2}
    if stream:
        document["stream"] = True
    return json.dumps(document, separators=(",", ":"))


def chunk_event(number: int, now_ns: int) -> bytes:
    """Return one server-sent event, of the size and shape that OpenAI's have."""
    return b'%b"choices":[{"index":0,"delta":{"content":" #%06d@%d#"},"logprobs":null,"finish_reason":null}]}\n\n' % (
        _HEAD,
        number,
        now_ns,
    )


_HEAD = (
    b'data: {"id":"chatcmpl-bench0000000000000000000000000","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"%b","service_tier":"default","system_fingerprint":"fp_bench",' % STREAM_MODEL.encode()
)
LAST_EVENT = _HEAD + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
USAGE_EVENT = _HEAD + (
    b'"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":44,"total_tokens":63,'
    b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}\n\n'
)
DONE_EVENT = b"data: [DONE]\n\n"


def asks_for_usage(body: bytes) -> bool:
    """Whether `stream_options.include_usage` is set, whatever the spaces in the JSON."""
    return b'"include_usage":true' in body.replace(b" ", b"")

"""What the simulator answers. Pure: a request and its behaviour in, bytes out.

Usage is exact by a simple rule that tests can reckon with: an input token per whitespace-separated word of the input,
an output token per word of the answer; the answer has as many words as asked for.
"""

import json
from typing import Any

WORDS = ("This", "is", "the", "simulator", "speaking;", "it", "says", "what", "it", "is", "told", "to", "say.")
CREATED = 1_700_000_000
MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-5-mini", "text-embedding-3-small", "simulator-1")

Json = dict[str, Any]


def dump(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def words(count: int) -> list[str]:
    """``count`` words of answer; all but the first begin with a space, as tokens do."""
    return [(" " if index else "") + WORDS[index % len(WORDS)] for index in range(count)]


def count_words(value: object) -> int:
    """Words of all text in a request's input."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(map(count_words, value))
    if isinstance(value, dict):
        return sum(count_words(value[name]) for name in ("content", "text", "input") if name in value)
    return 0


def chat_usage(request: Json, output: int, cached: int) -> Json:
    """The usage object of a chat."""
    into = count_words(request.get("messages", []))
    return {
        "prompt_tokens": into,
        "completion_tokens": output,
        "total_tokens": into + output,
        "prompt_tokens_details": {"cached_tokens": min(cached, into)},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def chat(request: Json, identifier: str, output: int, cached: int) -> bytes:
    """A whole chat completion."""
    message = {"role": "assistant", "content": "".join(words(output)), "refusal": None}
    return dump(
        {
            "id": identifier,
            "object": "chat.completion",
            "created": CREATED,
            "model": request.get("model"),
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": chat_usage(request, output, cached),
            "service_tier": "default",
        }
    )


def chat_events(request: Json, identifier: str, output: int, cached: int) -> list[bytes]:
    """The events of a streamed chat completion, ``[DONE]`` last."""
    wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))

    def event(choices: list[Json], usage: Json | None = None) -> bytes:
        chunk: Json = {
            "id": identifier,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": request.get("model"),
            "choices": choices,
        }
        if wants_usage:
            chunk["usage"] = usage
        return b"data: " + dump(chunk) + b"\n\n"

    def choice(delta: Json, finish: str | None = None) -> list[Json]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    events = [event(choice({"role": "assistant", "content": ""}))]
    events += [event(choice({"content": word})) for word in words(output)]
    events.append(event(choice({}, "stop")))
    if wants_usage:
        events.append(event([], chat_usage(request, output, cached)))
    events.append(b"data: [DONE]\n\n")
    return events


def completion_usage(request: Json, output: int) -> Json:
    """The usage object of a legacy completion."""
    into = count_words(request.get("prompt", ""))
    return {"prompt_tokens": into, "completion_tokens": output, "total_tokens": into + output}


def completion(request: Json, identifier: str, output: int) -> bytes:
    """A whole legacy completion."""
    choice = {"index": 0, "text": "".join(words(output)), "logprobs": None, "finish_reason": "stop"}
    answer = {"id": identifier, "object": "text_completion", "created": CREATED, "model": request.get("model")}
    return dump({**answer, "choices": [choice], "usage": completion_usage(request, output)})


def completion_events(request: Json, identifier: str, output: int) -> list[bytes]:
    """The events of a streamed one."""
    wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    common = {"id": identifier, "object": "text_completion", "created": CREATED, "model": request.get("model")}
    chunks: list[Json] = [
        {**common, "choices": [{"index": 0, "text": word, "logprobs": None, "finish_reason": None}]}
        for word in words(output)
    ]
    if wants_usage:
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**common, "choices": [], "usage": completion_usage(request, output)})
    return [*(b"data: " + dump(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]


def moderation(request: Json, identifier: str) -> bytes:
    """Nothing is ever flagged."""
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    given = request.get("input", "")
    count = len(given) if isinstance(given, list) else 1
    model = request.get("model", "omni-moderation-latest")
    return dump({"id": identifier, "model": model, "results": [result] * count})


def client_secret(request: Json) -> bytes:
    """A secret for a realtime session that nobody serves."""
    return dump({"value": "ek_simulated", "expires_at": CREATED + 600, "session": request.get("session", {})})


def response_object(request: Json, identifier: str, output: int, status: str) -> Json:
    """A Response."""
    into = count_words(request.get("input", ""))
    text = "".join(words(output))
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {
        "type": "message",
        "id": f"msg_{identifier}",
        "status": "completed",
        "role": "assistant",
        "content": content,
    }
    done = status == "completed"
    usage = {
        "input_tokens": into,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": into + output,
    }
    return {
        "id": identifier,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "model": request.get("model"),
        "output": [message] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if done else None,
    }


def response_events(request: Json, identifier: str, output: int) -> list[bytes]:
    """The events of a streamed Response."""
    out: list[bytes] = []

    def event(kind: str, **fields: object) -> None:
        payload = {"type": kind, "sequence_number": len(out), **fields}
        out.append(f"event: {kind}\n".encode() + b"data: " + dump(payload) + b"\n\n")

    item = f"msg_{identifier}"
    event("response.created", response=response_object(request, identifier, output, "in_progress"))
    for word in words(output):
        event("response.output_text.delta", item_id=item, output_index=0, content_index=0, delta=word, logprobs=[])
    event(
        "response.output_text.done",
        item_id=item,
        output_index=0,
        content_index=0,
        text="".join(words(output)),
        logprobs=[],
    )
    event("response.completed", response=response_object(request, identifier, output, "completed"))
    return out


def embeddings(request: Json) -> bytes:
    """Embeddings of eight dimensions."""
    given = request.get("input", "")
    inputs = given if isinstance(given, list) and given and isinstance(given[0], (str, list)) else [given]
    into = count_words(given) if not isinstance(given, list) or isinstance(given[0], str) else len(inputs)
    vector = [0.125] * 8
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(inputs))]
    usage = {"prompt_tokens": into, "total_tokens": into}
    return dump({"object": "list", "data": data, "model": request.get("model"), "usage": usage})


def model(name: str) -> Json:
    """A model object."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"}


def error(status: int, message: str, code: str | None = None) -> bytes:
    """An error body in OpenAI's shape."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return dump({"error": {"message": message, "type": kind, "param": None, "code": code}})

"""Images and audio: right in shape, usage and size, and without any content."""

import base64

from tenantry_simulator.answers import CREATED, Json, count_words, dump, words

#: Tokens of one image, and of a second of audio.
IMAGE_TOKENS = 272
AUDIO_TOKENS_PER_SECOND = 10
#: What passes for a picture or a sound.
FILLER = bytes(range(256)) * 12
#: Bytes of audio that count as a second.
BYTES_PER_SECOND = 1000

Events = list[bytes]


def _event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + dump({"type": kind, **fields}) + b"\n\n"


def image_usage(prompt: str, count: int) -> Json:
    """Usage of images."""
    into = count_words(prompt)
    details = {"text_tokens": into, "image_tokens": 0}
    out = IMAGE_TOKENS * count
    return {"input_tokens": into, "output_tokens": out, "total_tokens": into + out, "input_tokens_details": details}


def images(request: Json) -> bytes:
    """A whole answer with images; ``dall-e`` models say no usage."""
    count = int(request.get("n") or 1)
    data = [{"b64_json": base64.b64encode(FILLER).decode()}] * count
    answer: Json = {"created": CREATED, "data": data}
    if not str(request.get("model", "")).startswith("dall-e"):
        answer["usage"] = image_usage(str(request.get("prompt", "")), count)
    return dump(answer)


def image_events(request: Json, padding: int, kind: str) -> Events:
    """A streamed image; ``padding`` makes it as large as real ones."""
    picture = base64.b64encode(FILLER + bytes(padding)).decode()
    common = {"created_at": CREATED, "size": "1024x1024", "quality": "low", "background": "auto"}
    return [
        _event(f"{kind}.partial_image", b64_json=picture, partial_image_index=0, output_format="png", **common),
        _event(
            f"{kind}.completed",
            b64_json=picture,
            output_format="png",
            **common,
            usage=image_usage(str(request.get("prompt", "")), 1),
        ),
    ]


def speech_events(request: Json) -> Events:
    """Streamed speech: a piece of sound per word."""
    spoken = str(request.get("input", "")).split()
    sound = base64.b64encode(FILLER[:300]).decode()
    usage = {"input_tokens": len(spoken), "output_tokens": len(spoken) * AUDIO_TOKENS_PER_SECOND}
    usage["total_tokens"] = sum(usage.values())
    return [
        *(_event("speech.audio.delta", audio=sound) for _ in spoken),
        _event("speech.audio.done", usage=usage),
    ]


def transcription_usage(model: str, size: int, output: int) -> Json:
    """whisper is charged by the second, its successors by the token."""
    seconds = size / BYTES_PER_SECOND
    if model.startswith("whisper"):
        return {"type": "duration", "seconds": seconds}
    into = int(seconds * AUDIO_TOKENS_PER_SECOND)
    return {
        "type": "tokens",
        "input_tokens": into,
        "output_tokens": output,
        "total_tokens": into + output,
        "input_token_details": {"audio_tokens": into, "text_tokens": 0},
    }


def transcription(model: str, size: int, output: int) -> bytes:
    """A transcription as JSON."""
    return dump({"text": "".join(words(output)), "usage": transcription_usage(model, size, output)})


def transcription_events(model: str, size: int, output: int) -> Events:
    """A streamed one."""
    text = "".join(words(output))
    return [
        *(_event("transcript.text.delta", delta=word) for word in words(output)),
        _event("transcript.text.done", text=text, usage=transcription_usage(model, size, output)),
    ]

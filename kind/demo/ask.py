"""What a tenant's developer does: the OpenAI SDK with a base URL and a key. Run by the demo in the virtual environment.

Reads one line of JSON, {"base_url", "api_key", "model"}, from standard input, so that the key is on no command line.
The SDK is imported before that line arrives: its import is none of the platform's time.
"""

from __future__ import annotations

import json
import sys
import time

from openai import APIConnectionError, InternalServerError, NotFoundError, OpenAI, OpenAIError
from openai.types.chat import ChatCompletionMessageParam

#: Seconds for the gateway to act upon a route that it has accepted.
PATIENCE = 10.0

QUESTION = "What does a tenant of this platform get?"


def main() -> None:
    """Ask once and have it answered whole, then once more as a stream; each line names what follows it."""
    print("ready", flush=True)
    told = json.loads(sys.stdin.readline())
    client = OpenAI(base_url=told["base_url"], api_key=told["api_key"], max_retries=0, timeout=60)
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            answer = client.chat.completions.create(model=told["model"], messages=messages)
            break
        except (APIConnectionError, InternalServerError, NotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    print(json.dumps({"answer": answer.choices[0].message.content, "model": answer.model}), flush=True)
    stream = client.chat.completions.create(model=told["model"], messages=messages, stream=True)
    for chunk in stream:
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            print(json.dumps({"piece": text}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except OpenAIError as error:
        sys.exit(f"{type(error).__name__}: {error}")

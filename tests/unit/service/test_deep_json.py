"""JSON of every depth: read, or refused; nothing in between that only the second look at it could not bear."""

import json

import pytest
from tenantry_service.policy import Keeping, Models
from tenantry_service.proxy.messages import Refuse

from tests.unit.service.playbook import head, play, policy, request

#: Around the interpreter's own limit of 1,000, less what the test itself stands on.
DEPTHS = range(700, 1010)
EVERYTHING = policy(
    models=Models(aliases={"fast": "gpt-4o"}, max_output_tokens=9),
    cache=Keeping(),
    idempotency=Keeping(),
)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/chat/completions", "messages"),
        ("/v1/chat/completions", "stream_options"),
        ("/v1/completions", "prompt"),
        ("/v1/responses", "input"),
        ("/v1/embeddings", "input"),
        ("/v1/realtime/client_secrets", "session"),
    ],
)
def test_no_depth_of_json_is_an_error_of_ours(path: str, field: str) -> None:
    seen = set()
    for depth in DEPTHS:
        deep = b"[" * depth + b"]" * depth
        if field in ("stream_options", "session"):
            deep = b'{"x":%b}' % deep
        body = b'{"model":"fast","stream":true,"temperature":0,"%b":%b}' % (field.encode(), deep)
        what = head("POST", path, length=len(body), extra=((b"idempotency-key", b"deep"),))
        story = play(EVERYTHING).on(request(what, body))
        seen.add(isinstance(story.last[0], Refuse))
        if isinstance(story.last[0], Refuse):
            assert story.refusal.error.status == 400
            assert json.loads(story.refusal.error.body())["error"]["message"]
    assert seen == {True, False}, "the depths tried do not straddle the limit"

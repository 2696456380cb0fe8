"""``GET /v1/models``: what a tenant may use, of all its upstreams, whichever of them answers."""

import json

import pytest
from tenantry_service.policy import Models, Upstream
from tenantry_service.proxy.messages import CloseUpstream, Gone, OpenUpstream, Refuse, Settle, Timer, ToClient

from tests.unit.service.playbook import (
    Event,
    Play,
    data,
    end,
    head,
    play,
    policy,
    request,
    reserved,
    sent,
    timer,
    upstream_gone,
    upstream_head,
)

HOSTED = Upstream(name="hosted", base_url="http://hosted.test/v1", priority=1, models=("gpt-*",))
OWN = Upstream(name="own", base_url="http://own.test/v1", priority=2)
SPARE = Upstream(name="spare", base_url="http://spare.test/v1", priority=3)
#: As nobody would write it again.
HOSTED_LIST = b'{"object":"list", "data":[{"id":"gpt-4o", "owned_by":"x"}, {"id":"gpt-5"},{"id":"tts-1"}]}'
OWN_LIST = b'{"data":[{"id":"llama-3.3-70b","max_model_len":8192},{"id":"gpt-4o","owned_by":"own"}],"object":"list"}'
LIST = request(head("GET", "/v1/models"))


def listed(body: bytes) -> list[Event]:
    return [sent(), upstream_head(200, "application/json", len(body)), data(body), end()]


def asked(story: Play) -> list[str]:
    return [command.endpoint.name for command in story.commands if isinstance(command, OpenUpstream)]


def ids(story: Play) -> list[str]:
    return [model["id"] for model in json.loads(story.to_client)["data"]]


def test_the_list_is_that_of_every_upstream_that_somebody_would_be_sent_to() -> None:
    story = play(policy(upstreams=(SPARE, OWN, HOSTED))).on(LIST, listed(HOSTED_LIST)).wants(OpenUpstream)
    story.on(listed(OWN_LIST)).wants(ToClient)
    # tts-1 would go to the other upstream, which does not have it; spare is nobody's first choice.
    assert ids(story) == ["llama-3.3-70b", "gpt-4o", "gpt-5"]
    assert b'{"id":"llama-3.3-70b","max_model_len":8192}' in story.to_client
    assert b'{"id":"gpt-4o", "owned_by":"x"}' in story.to_client
    assert asked(story) == ["hosted", "own"]
    assert story.client_head.content_length is None
    assert story.done


def test_a_list_of_which_everything_may_be_used_passes_as_it_came() -> None:
    assert play(policy(upstreams=(OWN,))).on(LIST, listed(OWN_LIST)).to_client == OWN_LIST
    narrow = play(policy(upstreams=(OWN,), models=Models(allow=("llama-*",)))).on(LIST, listed(OWN_LIST))
    assert ids(narrow) == ["llama-3.3-70b"]
    renamed = play(policy(upstreams=(OWN,), models=Models(aliases={"fast": "gpt-4o"}))).on(LIST, listed(OWN_LIST))
    assert ids(renamed) == ["llama-3.3-70b", "gpt-4o", "fast"]


FAILURES: dict[str, list[Event]] = {
    "unreachable": [upstream_gone(Gone.UNREACHABLE)],
    "suspended": [upstream_gone(Gone.SUSPENDED)],
    "does not connect": [timer(Timer.CONNECT)],
    "keeps silent": [sent(), timer(Timer.FIRST_BYTE)],
    "hangs up": [sent(), upstream_gone(Gone.INTERRUPTED)],
    "breaks off": [sent(), upstream_head(200), data(b'{"data":'), upstream_gone(Gone.INTERRUPTED)],
    "refuses the credential": [sent(), upstream_head(401)],
    "fails": [sent(), upstream_head(500)],
    "has no such route": [sent(), upstream_head(404)],
    "says something else": listed(b"<html>"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_upstream_that_does_not_answer_is_left_out_if_another_one_has(failure: str) -> None:
    story = play(policy(upstreams=(HOSTED, OWN))).on(LIST, listed(HOSTED_LIST), FAILURES[failure])
    assert ids(story) == ["gpt-4o", "gpt-5"]
    assert (story.exchange.status, story.done) == (200, True)


@pytest.mark.parametrize("failure", ["unreachable", "refuses the credential", "fails", "says something else"])
def test_when_the_first_does_not_answer_the_others_are_asked_the_spare_one_too(failure: str) -> None:
    story = play(policy(upstreams=(HOSTED, OWN, SPARE))).on(LIST, FAILURES[failure], FAILURES[failure])
    story.on(listed(OWN_LIST)).wants(ToClient)
    assert asked(story) == ["hosted", "own", "spare"]
    # What the first one would serve, the spare one serves in its place.
    assert ids(story) == ["llama-3.3-70b", "gpt-4o"]


def test_when_nobody_answers_the_error_is_the_last_ones() -> None:
    story = play(policy(upstreams=(HOSTED, OWN))).on(LIST, upstream_gone(Gone.UNREACHABLE))
    story.on(upstream_gone(Gone.UNREACHABLE)).wants(Refuse)
    assert story.refusal.error.status == 502


def test_a_model_of_ones_own_can_be_deleted_and_another_name_for_one_cannot() -> None:
    models = Models(allow=("ft:*",), aliases={"mine": "ft:gpt-4o-mini:acme"})
    deleted = play(policy(models=models)).on(request(head("DELETE", "/v1/models/ft:gpt-4o-mini:acme")), reserved())
    assert deleted.sent_upstream.startswith(b"DELETE /v1/models/ft:gpt-4o-mini:acme HTTP/1.1\r\n")
    deleted.on(sent(), upstream_head(200), data(b"{}"), end()).wants(ToClient, Settle)
    assert deleted.settled.nano_usd == 0
    assert play(policy(models=models)).on(request(head("DELETE", "/v1/models/gpt-4o"))).refusal.error.status == 404
    assert play(policy(models=models)).on(request(head("DELETE", "/v1/models/mine"))).refusal.error.status == 405


def test_who_is_left_out_is_not_left_waiting() -> None:
    story = play(policy(upstreams=(HOSTED, OWN))).on(LIST, listed(HOSTED_LIST), sent(), timer(Timer.FIRST_BYTE))
    assert isinstance(story.last[0], CloseUpstream)

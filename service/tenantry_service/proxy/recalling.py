"""Requests whose answers may be there already. Which they are, and what becomes of them, without a socket or a clock.

Two reasons, each of which a tenant's policy may give: the same question has the same answer (embeddings, and chats that
ask for it by ``temperature: 0`` or a ``seed``: the cache), or the same request has come again (``Idempotency-Key``).
An answer that is given again is a request like any other to the limits and the ledger, but uses no tokens and costs
nothing.
"""

import hashlib
import re
from collections.abc import Sequence

import msgspec

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.limits.decisions import Demand
from tenantry_service.proxy import headers
from tenantry_service.proxy.answers import NOTHING_USED
from tenantry_service.proxy.asked import Asked
from tenantry_service.proxy.body import Estimate
from tenantry_service.proxy.ending import Ending
from tenantry_service.proxy.kept import Claim, KeptAnswer, Purpose, Recalled, Verdict
from tenantry_service.proxy.messages import ClientHead, Commands, Recall, RequestHead, ToClient
from tenantry_service.proxy.routes import Plan
from tenantry_service.proxy.shapes import Determined
from tenantry_service.proxy.states import ABANDONED, ANSWERING, RECALLING
from tenantry_service.proxy.upload import Upload

#: What a key may be: the draft of the IETF (draft-ietf-httpapi-idempotency-key-header) leaves it open, OpenAI's SDK
#: makes 40 characters.
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
#: Headers that make another question of the same body.
_ASKING = frozenset([b"openai-beta", b"accept", b"content-type"])
_decoder = msgspec.json.Decoder(Determined)

HIT, MISS = b"x-tenantry-cache: hit\r\n", b"x-tenantry-cache: miss\r\n"
REPLAYED = b"x-tenantry-replayed: true\r\n"
_REFUSALS = {
    Verdict.IN_PROGRESS: errors.IN_PROGRESS,
    Verdict.CONFLICT: errors.KEY_OF_ANOTHER,
    Verdict.TOO_LARGE: errors.NOT_KEPT,
}


def claims(asked: Asked, head: RequestHead) -> list[Claim] | ApiError:
    """What to look up for a request that is understood: nothing for nearly all; 400 if its key cannot be one."""
    assert asked.caller is not None
    policy = asked.caller.view.policy
    found: list[Claim] = []
    if head.method != "POST":
        return found
    # A body that passes through is not there to be compared, and a form is never the same twice: libraries invent a new
    # delimiter for each.
    body = asked.outgoing if asked.upload is None else _length(head, asked.upload)
    if policy.idempotency is not None:
        given = [value for name, value in head.headers if name == b"idempotency-key"]
        if len(given) > 1 or (given and not _KEY.fullmatch(given[0])):
            return errors.malformed("Idempotency-Key must be 1 to 255 visible ASCII characters, given once.")
        if given:
            # A key is its caller's: two API keys of a tenant may choose the same one.
            key = _digest([asked.caller.key.id.encode(), given[0]])
            fingerprint = _digest([head.path, head.query, body])
            found.append(Claim(policy.tenant, Purpose.IDEMPOTENCY, key, fingerprint, policy.idempotency))
    if policy.cache is not None and _has_one_answer(asked.plan, body):
        asking = [part for header in sorted(head.headers) if header[0] in _ASKING for part in header]
        key = _digest([head.path, head.query, body, *asking])
        found.append(Claim(policy.tenant, Purpose.CACHE, key, b"", policy.cache))
    return found


def _length(head: RequestHead, upload: Upload) -> bytes:
    """What is known of a body that passes through, however much of it has come."""
    if any(name == b"transfer-encoding" for name, _ in head.headers):
        return b"chunked"
    return b"%d" % (upload.size if head.content_length is None else head.content_length)


def _digest(parts: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _has_one_answer(plan: Plan, body: bytes) -> bool:
    if plan is Plan.EMBEDDINGS:
        return True
    if plan is not Plan.CHAT:
        return False
    try:
        found = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return not found.stream and (found.temperature == 0 or found.seed is not None)


class Recalling(Ending):
    """See the module."""

    __slots__ = ()

    def _recall(self) -> Commands:
        """Ask for the next answer that may be kept, or go on without."""
        if not self._wanted:
            return self._go_on()
        self.state = RECALLING
        return (Recall(self._wanted[0]),)

    def on_recalled(self, recalled: Recalled) -> Commands:
        """What became of a claim."""
        if self.state is not RECALLING and self.state is not ABANDONED:
            return ()
        claim = self._wanted.pop(0)
        if recalled is Verdict.GRANTED:
            self._granted = [*self._granted, claim]
        if self.state is ABANDONED:
            return self._end(())
        if isinstance(recalled, KeptAnswer):
            return self._give_again(recalled, claim)
        if recalled is not Verdict.GRANTED:
            return self._refuse(_REFUSALS[recalled])
        self._most_taken = max(self._most_taken, claim.most_bytes)
        return self._recall()

    def _give_again(self, answer: KeptAnswer, claim: Claim) -> Commands:
        self._again = answer
        self._marks = HIT if claim.purpose is Purpose.CACHE else REPLAYED
        self.asked.endpoint = None
        self.asked.estimate = Estimate(Demand(0, 0), 0, 0)
        return self._go_on()

    def _answer_again(self, answer: KeptAnswer) -> Commands:
        """The limits allow it: the whole answer at once."""
        self.asked.forget_body()
        self.state = ANSWERING
        self.error_type = errors.upstream_error_type(answer.status)
        lines = answer.lines + headers.id_line(self.request_id) + self._marks
        if self._reservation is not None:
            lines += headers.rate_limit_lines(self._reservation.standing)
        self.status = answer.status
        self._take(answer.status, answer.lines, answer.body)
        settled = self._settle(NOTHING_USED)
        head = ClientHead(answer.status, lines, len(answer.body))
        return self._end((ToClient(answer.body, head, last=True), *settled), complete=True)

    def _go_on(self) -> Commands:
        """The request is to be served: reserve, or answer at once."""
        asked = self.asked
        assert asked.caller is not None
        if asked.estimate is not None:
            return self._reserve(asked.caller.view.policy, asked.estimate.demand)
        if asked.endpoint is not None:
            return self._open(asked.endpoint)
        self.state = ANSWERING
        lines = b"content-type: application/json\r\n" + headers.id_line(self.request_id)
        return self._finish(asked.own_answer, ClientHead(200, lines, len(asked.own_answer)))

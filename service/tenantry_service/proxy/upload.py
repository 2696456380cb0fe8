"""A request body that passes through instead of being held, and which model it is for. Pure."""

from tenantry_service import errors, pricing
from tenantry_service.errors import ApiError
from tenantry_service.limits.decisions import Demand
from tenantry_service.proxy import forms, framing, inspection
from tenantry_service.proxy.body import MEDIA_BYTES_PER_TOKEN, Estimate
from tenantry_service.proxy.messages import RequestHead
from tenantry_service.proxy.routes import FORMS, Plan
from tenantry_service.proxy.snapshot import Target, TenantView

#: How much of a form is looked at before it is sent on, in search of its model. Clients with a form library write
#: fields before files; what comes later must be what was assumed.
PEEK_BYTES = 64 * 1024
#: Bytes of audio per token at the lowest rate that speech has (6 kbit/s).
LEAST_AUDIO_BYTES_PER_TOKEN = 40
#: The size of a form that does not say it: the most that OpenAI takes.
UNKNOWN_FORM_BYTES = 25 * 1024 * 1024
#: The most images of one request, and tokens of each that a form can ask for.
MOST_IMAGES = 10
MOST_TOKENS_OF_IMAGE = 6_240

MODEL_COMES_LATE = errors.malformed(
    "Put the field 'model' in front of the file: this model is served under another name or by another upstream.",
    param="model",
)


class Upload:
    """One body. It is held until it is known where it goes (``ready``), then framed and passed on."""

    __slots__ = (
        "_chunked",
        "_held",
        "_plan",
        "_scanner",
        "_size",
        "_view",
        "delta",
        "ended",
        "passed",
        "ready",
        "target",
    )

    def __init__(self, plan: Plan, head: RequestHead, view: TenantView) -> None:
        self._plan = plan
        self._view = view
        self._scanner = forms.scanner(_content_type(head)) if plan in FORMS else None
        self._held: list[bytes] = []
        self._size = 0
        #: Some of it was written, so that it cannot be sent again.
        self.passed = False
        self._chunked = head.content_length is None
        #: What the upstream gets more (or less) than the caller sent, in bytes.
        self.delta = 0
        #: All of it has arrived.
        self.ended = False
        #: It is known where it goes. What is no form names no model.
        self.ready = plan not in FORMS or (self._scanner is None and view.allows_all)
        self.target: Target = view.no_model

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self._size

    def take(self, data: bytes, *, hold: bool) -> ApiError | None:
        """More of the body; ``hold``: there is nobody yet to pass it on to."""
        self._size += len(data)
        if self._size > self._view.policy.max_upload_bytes:
            return errors.body_too_large(self._view.policy.max_upload_bytes)
        if hold:
            self._held.append(data)
        return self._look(data)

    def end(self) -> ApiError | None:
        """All of it has arrived."""
        self.ended = True
        if self._plan in FORMS and (self._scanner is None or self._scanner.model is None):
            refused = None if self._view.allows_all else inspection.missing_model()
            self.ready = self.ready or refused is None
            return refused
        self.ready = True
        return None

    def _look(self, data: bytes) -> ApiError | None:
        scanner = self._scanner
        if scanner is None:
            return None if self.ready else inspection.missing_model()
        known = scanner.model
        scanner.feed(data)
        if scanner.error is not None:
            return scanner.error
        if known is None and scanner.model is not None:
            return self._name(scanner.model)
        if scanner.ended and scanner.model is None and not self._view.allows_all:
            # Said before the end is passed on: the upstream does nothing with half a form.
            return inspection.missing_model()
        self.ready = self.ready or self._size >= PEEK_BYTES
        return None

    def _name(self, model: str) -> ApiError | None:
        target = self._view.find(model)
        if isinstance(target, ApiError):
            return target
        late = self.ready
        if late and (target.served != target.requested or target.endpoint is not self.target.endpoint):
            return MODEL_COMES_LATE
        self.target, self.ready = target, True
        if target.served != model:
            self._rename(target.served.encode())
        return None

    def _rename(self, served: bytes) -> None:
        assert self._scanner is not None
        start, end = self._scanner.value_at
        held = b"".join(self._held)
        self._held = [held[:start] + served + held[end:]]
        self.delta = len(served) - (end - start)

    def estimate(self, length: int | None) -> Estimate:
        """What a body of this declared length may cost."""
        if self._plan not in FORMS:
            return Estimate(Demand(0, 0), 0, 0)
        size = UNKNOWN_FORM_BYTES if length is None else length
        if self._plan is Plan.TRANSCRIPTION:
            into = size // MEDIA_BYTES_PER_TOKEN
            most = size // LEAST_AUDIO_BYTES_PER_TOKEN
            likely, dearest = into // 4, pricing.worst_case(most, most // 2, self.target.price)
        else:
            into = inspection.IMAGE_TOKENS
            most = _most_image_input(size)
            likely = inspection.IMAGE_TOKENS
            dearest = pricing.worst_case(most, MOST_IMAGES * MOST_TOKENS_OF_IMAGE, self.target.price)
        return Estimate(Demand(into + likely, dearest), into, likely)

    def take_whole(self) -> bytes | None:
        """All of the body, if it was all there before anything was sent; it stays, for a second try elsewhere."""
        if not self.ended or self.passed:
            return None
        self._held = [b"".join(self._held)]
        return self._held[0]

    def frame_held(self) -> bytes:
        """What was held, ready to be written."""
        self.passed = True
        held, self._held = b"".join(self._held), []
        return self.frame(held) + (self.frame_end() if self.ended else b"")

    def forget(self) -> None:
        """Nobody needs what is held."""
        self._held = []

    def frame(self, data: bytes) -> bytes:
        """A piece of the body as the upstream gets it."""
        return framing.chunk(data, last=False) if self._chunked else data

    def frame_end(self) -> bytes:
        """What follows the last piece."""
        return framing.chunk(b"", last=True) if self._chunked else b""


def _most_image_input(size: int) -> int:
    """Tokens of images in a form of ``size`` bytes: at the worst each kilobyte is a tile."""
    return min(size // 4, MOST_IMAGES * MOST_TOKENS_OF_IMAGE)


def _content_type(head: RequestHead) -> bytes:
    found = [value for name, value in head.headers if name == b"content-type"]
    return found[0] if len(found) == 1 else b""

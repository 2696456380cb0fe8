"""The client's side of an exchange: its head, and its body, which is held until understood, or passes through. Pure."""

from collections.abc import Sequence
from typing import Final

from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.proxy import recalling
from tenantry_service.proxy.messages import (
    CONTINUE_READING,
    Commands,
    RequestHead,
    ToUpstream,
)
from tenantry_service.proxy.recalling import Recalling
from tenantry_service.proxy.states import (
    ABANDONED,
    ANSWERING,
    BLOCKED,
    CONNECTING,
    DONE,
    NEW,
    RECALLING,
    RECEIVING,
    RESERVING,
    UPLOADING,
    WAITING,
)
from tenantry_service.proxy.upload import Upload

#: There is nobody yet to pass a body on to.
_HELD: Final = (RECALLING, RESERVING, CONNECTING)


class Receiving(Recalling):
    """See the module."""

    __slots__ = ()

    def on_request(
        self,
        head: RequestHead,
        now: float,
        body_start: Sequence[bytes] = (),
        complete: bool = False,
        draining: bool = False,
        ledger_full: bool = False,
    ) -> Commands:
        """The head of the request, and as much of its body as came with it; ``now`` in Unix seconds."""
        if self.state is not NEW:
            return ()
        error = (
            errors.DRAINING if draining else self.asked.read_head(head, self._snapshot, now, ledger_full=ledger_full)
        )
        if error is not None:
            return self._refuse(error)
        self.state = RECEIVING
        if self.asked.upload is not None:
            return self._receive_upload(self.asked.upload, head, body_start, complete=complete)
        for data in body_start:
            refused = self.on_body(data)
            if refused:
                return refused
        if complete:
            return self.on_body_end()
        return (CONTINUE_READING,) if head.expects_continue else ()

    def on_body(self, data: bytes) -> Commands:
        """More of the request's body."""
        if self.asked.upload is not None:
            return self._pass_body(self.asked.upload, data)
        if self.state is not RECEIVING:
            return ()
        error = self.asked.read_body(data)
        return () if error is None else self._refuse(error)

    def on_body_end(self) -> Commands:
        """The request is complete."""
        asked = self.asked
        if asked.upload is not None:
            return self._end_body(asked.upload)
        if self.state is not RECEIVING:
            return ()
        error = asked.understand()
        if error is not None:
            return self._refuse(error)
        assert asked.caller is not None
        return self._claim() if asked.caller.view.keeps else self._go_on()

    def _claim(self) -> Commands:
        """Look for an answer that was given before."""
        wanted = recalling.claims(self.asked, self.asked.head)
        if isinstance(wanted, ApiError):
            return self._refuse(wanted)
        self._wanted = wanted
        return self._recall()

    # A body that passes through.

    def _receive_upload(
        self, upload: Upload, head: RequestHead, body_start: Sequence[bytes], *, complete: bool
    ) -> Commands:
        for data in body_start:
            refused = upload.take(data, hold=True)
            if refused is not None:
                return self._refuse(refused)
        refused = upload.end() if complete else None
        if refused is not None:
            return self._refuse(refused)
        if upload.ready:
            return self._begin_upload()
        return self._ask_for_body(head.expects_continue)

    def _begin_upload(self) -> Commands:
        asked = self.asked
        asked.understand_upload()
        assert asked.caller is not None
        return self._claim() if asked.caller.view.keeps else self._go_on()

    def _ask_for_body(self, expected: bool) -> Commands:
        return (CONTINUE_READING,) if expected else ()

    def _pass_body(self, upload: Upload, data: bytes) -> Commands:
        state = self.state
        if state is DONE or state is ABANDONED:
            return ()
        hold = state is RECEIVING or state in _HELD
        refused = upload.take(data, hold=hold)
        if refused is not None:
            return self._stop(refused, refused)
        if state is RECEIVING:
            return self._begin_upload() if upload.ready else ()
        self.asked.target = upload.target
        return () if hold else (ToUpstream(upload.frame(data)),)

    def _end_body(self, upload: Upload) -> Commands:
        if self.state is DONE or self.state is ABANDONED or upload.ended:
            return ()
        refused = upload.end()
        if refused is not None:
            return self._stop(refused, refused)
        if self.state is RECEIVING:
            return self._begin_upload()
        if self.state in _HELD:
            return ()
        if self.state is not ANSWERING:
            self.state = WAITING
        return (ToUpstream(upload.frame_end(), last=True),)

    def on_upstream_full(self) -> Commands:
        """The upstream takes no more of the request for now."""
        if self.state is UPLOADING:
            self.state = BLOCKED
        return ()

    def on_upstream_drained(self) -> Commands:
        """The upstream takes more of the request."""
        if self.state is BLOCKED:
            self.state = UPLOADING
        return ()

"""A stream whose head had to be sent before there was a pod: what the pod then answers, as part of it. Pure.

Load balancers cut a connection that is silent for a minute, so a request that waits for long and wants a stream gets
the stream's head and comments (WHATWG HTML 9.2.6). The pod's answer follows; if it is an error, as an event that the
OpenAI SDK raises as one.
"""

import httptools

from tenantry_service import errors

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nconnection: close\r\n\r\n"
COMMENT = b": waking up\n\n"
#: Bytes of an error's body.
MAX_ERROR = 64 * 1024


class Telling:
    """Turns the bytes of a pod's answer into those of a stream that has begun."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._out: list[bytes] = []
        self._error = b""
        self._passes = False
        self._complete = False

    def feed(self, data: bytes) -> bytes:
        """More of the answer; what there is to send of it."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._complete, self._error = True, b""
            return errors.UPSTREAM_INTERRUPTED.sse_event()
        out, self._out = b"".join(self._out), []
        return out

    def end(self) -> bytes:
        """The pod has closed."""
        return b"" if self._complete else errors.UPSTREAM_INTERRUPTED.sse_event()

    # httptools' callbacks.

    def on_headers_complete(self) -> None:
        """The status is known."""
        self._passes = self._parser.get_status_code() == 200

    def on_body(self, data: bytes) -> None:
        """Part of the body, without its framing."""
        if self._passes:
            self._out.append(data)
        elif len(self._error) < MAX_ERROR:
            self._error += data

    def on_message_complete(self) -> None:
        """The answer is complete."""
        if self._parser.get_status_code() < 200:
            return  # 100 Continue: the answer is still to come
        self._complete = True
        if not self._passes:
            # JSON, in one line: a line break would end the event's data.
            text = self._error.replace(b"\r", b"").replace(b"\n", b"")
            self._out.append(b"data: " + text + b"\n\n" if text else errors.UPSTREAM_INTERRUPTED.sse_event())

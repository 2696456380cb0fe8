"""Pods that only KWOK plays, made to answer: an HTTP proxy that says for each of them what it has to do."""

from collections.abc import Callable
from urllib.parse import urlsplit

from tests.cluster.stand_in import Answerer, StandIn

#: What a pod says of itself, by its address; None: nothing.
Says = Callable[[str], dict[str, object] | None]


class PodProxy(StandIn):
    """Use as a context manager; ``says`` may be replaced at any time."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[str] = []
        proxy = self

        class Handler(Answerer):
            def do_GET(self) -> None:  # noqa: N802 - http.server's name
                """One question, in the form that proxies get: with the whole URL."""
                address = urlsplit(self.path).hostname or ""
                proxy.asked.append(address)
                said = proxy.says(address)
                self.answer(503 if said is None else 200, said)

        super().__init__(Handler)

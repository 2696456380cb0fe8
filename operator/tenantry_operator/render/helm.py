"""The renderer of the operator: the helper process, and the latest results by digest."""

import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tenantry_operator import metrics
from tenantry_operator.render.helper import Helper
from tenantry_operator.render.renderer import ChartIdentity, Objects, RenderError, canonical, digest_of

#: Results kept: some 10 KiB each. A converged tenant is not rendered at all, so this only has to hold those that a
#: worker is about to try again.
CACHE_ENTRIES = 64


def find_helper() -> str:
    """Path of ``tenantry-render``: what TENANTRY_RENDER says, else from PATH. Raises :class:`RenderError`."""
    found = os.environ.get("TENANTRY_RENDER") or shutil.which("tenantry-render")
    if not found:
        raise RenderError(
            "tenantry-render is not on PATH; `make render-helper` builds it, TENANTRY_RENDER says where it is"
        )
    return found


class HelmRenderer:
    """Renders one chart. ``start`` before anything else; ``close`` at the end."""

    def __init__(self, chart: Path, *, helper: Helper | None = None, cache_entries: int = CACHE_ENTRIES) -> None:
        self._helper = helper or Helper([find_helper(), str(chart)])
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_entries = cache_entries
        self._identity: ChartIdentity | None = None
        self.hits = 0
        self.misses = 0

    async def start(self) -> None:
        """Start the helper and learn what it renders. Raises :class:`RenderError`."""
        self._identity = await self._helper.start()

    async def close(self) -> None:
        """End the helper."""
        await self._helper.close()

    @property
    def chart(self) -> str:
        """Name and version of the chart."""
        return self._known().chart

    def digest(self, values: Mapping[str, object]) -> str:
        """SHA-256 (hex) over chart, values and renderer: equal if and only if the objects are."""
        return digest_of(self._known(), canonical(values))

    async def render(self, release: str, namespace: str, values: Mapping[str, object]) -> Objects:
        """The objects, in the order of their installation. Raises :class:`RenderError`.

        Each call gives objects of its own: what is kept is their JSON, which nobody can change and which is small.
        """
        encoded = canonical(values)
        digest = digest_of(self._known(), encoded)
        kept = self._cache.get(digest)
        if kept is None:
            self.misses += 1
            metrics.RENDERS.labels("miss").inc()
            # A helper that was started anew may have found another chart on disk: what it renders has its own digest.
            self._identity, kept = await self._helper.render(release, namespace, encoded)
            self._keep(digest_of(self._identity, encoded), kept)
        else:
            self.hits += 1
            metrics.RENDERS.labels("hit").inc()
            self._cache.move_to_end(digest)
        return msgspec.json.decode(kept, type=list[dict[str, object]])

    def _keep(self, digest: str, objects: bytes) -> None:
        self._cache[digest] = objects
        self._cache.move_to_end(digest)
        while len(self._cache) > self._cache_entries:
            self._cache.popitem(last=False)

    def _known(self) -> ChartIdentity:
        if self._identity is None:
            raise RuntimeError("the renderer has not been started")
        return self._identity

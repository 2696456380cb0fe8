"""Signs of life: leases of requests that last, and of the process itself."""

import asyncio
import secrets
from functools import partial

from tenantry_service.limits import answers, calls
from tenantry_service.limits.connection import Reply
from tenantry_service.limits.courier import Courier
from tenantry_service.limits.link import Link
from tenantry_service.limits.packed import UnreadableError
from tenantry_service.limits.tenant import Tenant, Tenants

RENEW_SECONDS = calls.LEASE_MS / 3000
#: Ids of one script run.
_AT_ONCE = 500
#: A tenant that has been quiet for so long needs no sign of life of this process.
_QUIET_SECONDS = 120.0


class Signs:
    """Gives them. A request that ends before its lease is a third through never needs one."""

    def __init__(self, link: Link, courier: Courier, tenants: Tenants) -> None:
        self._link = link
        self._courier = courier
        self._tenants = tenants
        self._process = secrets.token_hex(8)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if self._link.up:
                self.give(RENEW_SECONDS / 2)

    def give(self, older_than_seconds: float) -> None:
        """Renew what has been reserved for so long, and say that we live. Only while the link is up."""
        now = asyncio.get_running_loop().time()
        for tenant in self._tenants:
            if tenant.live or now - tenant.used_at < _QUIET_SECONDS:
                old = now - older_than_seconds
                ids = [name for name, (_, since) in tenant.live.items() if since <= old]
                for start in range(0, max(1, len(ids)), _AT_ONCE):
                    self._renew(tenant, ids[start : start + _AT_ONCE])

    def _renew(self, tenant: Tenant, ids: list[str]) -> None:
        held = {"": ids}
        for reservation_id in ids:
            key_name = tenant.live[reservation_id][0]
            if key_name:
                held.setdefault(key_name, []).append(reservation_id)
        call = calls.renew(tenant.keys, self._process, held)
        self._courier.run(call, partial(self._renewed, tenant), _nothing)

    def _renewed(self, tenant: Tenant, reply: Reply) -> None:
        try:
            if not isinstance(reply, bytes):
                raise UnreadableError(f"{reply!r}")
            tenant.replicas = max(1, answers.read_renewed(reply).processes)
        except UnreadableError as error:
            self._link.fail(f"Redis refuses: {error}")


def _nothing(_: str) -> None:
    """The next one will come."""

"""What is to be priced: tenants, their requests, and what follows from them."""

from enum import StrEnum
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from tenantry_service import pricing
from tenantry_service.pricing import Usage

from tenantry_cost.book import HOURS

#: Streams that one process is meant to have under way: the default of a Tenant's `autoscaling.targetInFlight`.
TARGET_IN_FLIGHT = 100
#: A streamed token is an SSE event of its own: some 250 bytes as OpenAI writes `chat.completion.chunk`.
BYTES_OUT_PER_TOKEN = 250
#: Four letters of English are a token.
BYTES_IN_PER_TOKEN = 4
_GB = 10**9
_SECONDS = HOURS * 3600


class Isolation(StrEnum):
    """How tenants are kept apart."""

    OWN = "own"  # each tenant has a process of its own: no tenant's memory, crash or load is another's
    SHARED = "shared"  # one pool of processes serves all tenants


class Workload(NamedTuple):
    """A month. Requests and tokens are per tenant and per request; ``peak`` is busiest hour over mean."""

    tenants: int = 10
    requests: int = 30_000
    stream_seconds: Fraction = Fraction(20)
    input_tokens: int = 800
    output_tokens: int = 400
    peak: Fraction = Fraction(3)
    isolation: Isolation = Isolation.OWN
    datastores: bool = True
    model: str | None = None
    node: str | None = None

    @property
    def all_requests(self) -> int:
        """Requests of all tenants."""
        return self.tenants * self.requests

    @property
    def mean_in_flight(self) -> Fraction:
        """Requests of one tenant that are under way at a time, on average (Little's law)."""
        return self.requests * self.stream_seconds / _SECONDS

    @property
    def processes(self) -> int:
        """Processes that the peak needs: at least one for each tenant, or two for all of them."""
        if self.isolation is Isolation.OWN:
            return self.tenants * self.replicas
        return max(2, ceil(self.tenants * self.mean_in_flight * self.peak / TARGET_IN_FLIGHT))

    @property
    def replicas(self) -> int:
        """Processes that one tenant's peak needs."""
        return max(1, ceil(self.mean_in_flight * self.peak / TARGET_IN_FLIGHT))

    @property
    def gb_out(self) -> Fraction:
        """What travels to clients, in GB."""
        return Fraction(self.all_requests * self.output_tokens * BYTES_OUT_PER_TOKEN, _GB)

    @property
    def gb_upstream(self) -> Fraction:
        """What travels to and from the models, in GB."""
        return self.gb_out + Fraction(self.all_requests * self.input_tokens * BYTES_IN_PER_TOKEN, _GB)

    @property
    def lcu(self) -> Fraction:
        """Load balancer capacity units, on average: 25 new connections a second, 3,000 open ones, or 1 GB an hour,
        whichever is most (https://aws.amazon.com/elasticloadbalancing/pricing/)."""
        return max(
            Fraction(self.all_requests, _SECONDS * 25),
            self.tenants * self.mean_in_flight / 3000,
            self.gb_upstream / HOURS,
        )

    @property
    def token_cents(self) -> int:
        """What the model's tokens cost, as the ledger prices them; 0 without a model."""
        if self.model is None:
            return 0
        usage = Usage(input=self.input_tokens, output=self.output_tokens)
        nano = pricing.price(usage, pricing.find(self.model, {}).rates) * self.all_requests
        return (2 * nano + 10**7) // (2 * 10**7)

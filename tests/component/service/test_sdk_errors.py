"""Every error of ours as the OpenAI SDK raises it, asynchronous and synchronous."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from tenantry_service import errors
from tenantry_service.errors import ApiError
from tenantry_service.ledger.event import UsageEvent
from tenantry_service.limits.limiter import Decision, Unknown
from tenantry_service.limits.memory import MemoryLimiter
from tenantry_service.policy import Budget, Keeping, KeyLimits, Limits, Models, UnknownModel, Upstream, Window
from tenantry_service.proxy import breaker, pool, protocol
from tenantry_service.proxy.messages import Timer

from tests.component.service.harness import KEY, NOBODY, Service, chat_request, key_record, service, until

Sdk = Any
HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Service]:
    patient = {Timer.FIRST_BYTE: 60, Timer.IDLE: 60}
    async with service(tmp_path, patient) as found:
        yield found


class Unwritable:
    """A ledger that is full, or one that fails in a way that nobody foresaw."""

    def __init__(self, *, accepting: bool) -> None:
        self.accepting = accepting

    def begin(self, event_id: str, note: bytes) -> None:
        raise RuntimeError(f"{event_id} cannot be written ahead")

    def append(self, event: UsageEvent) -> None:
        """Nobody reads it."""


class Away(MemoryLimiter):
    """Cannot be asked."""

    def reserve(self, *given: Any) -> None:
        done: Callable[[Decision], None] = given[-1]
        done(Unknown("away"))


def chat(sdk: Sdk, **fields: Any) -> Any:
    """A chat; a streamed one to its end."""
    return sdk.chat.completions.create(**{"model": "gpt-4o-mini", "messages": HELLO, **fields})


def told(**behaviour: int) -> dict[str, Any]:
    """How the upstream shall behave."""
    return {"extra_headers": {f"x-simulator-{name.replace('_', '-')}": str(v) for name, v in behaviour.items()}}


async def nothing(_: Service) -> None:
    """There is nothing to arrange."""


def serves(**changes: Any) -> Callable[[Service], Awaitable[None]]:
    """Another policy."""

    async def arrange(running: Service) -> None:
        running.serve(**changes)

    return arrange


def sets(what: str, value: Any) -> Callable[[Service], Awaitable[None]]:
    """An attribute of the engine."""

    async def arrange(running: Service) -> None:
        setattr(running.engine, what, value)

    return arrange


def hurries(*timers: Timer) -> Callable[[Service], Awaitable[None]]:
    """Less patience with the upstream."""

    async def arrange(running: Service) -> None:
        running.engine.seconds.update(dict.fromkeys(timers, 0.2))

    return arrange


async def refuses_our_credential(running: Service) -> None:
    running.simulator.expected_authorization = "Bearer sk-another"


async def suspended(running: Service) -> None:
    for _ in range(breaker.THRESHOLD):
        await running.raw(chat_request(extra=b"connection: close\r\nx-simulator-error-status: 503\r\n"))


async def under_way(running: Service) -> None:
    """The same request, as the SDK sends it, has come and is not answered yet."""
    running.serve(idempotency=Keeping())
    asked = asyncio.create_task(chat(running.sdk(), extra_headers={"idempotency-key": "k", **STALLED}))
    UNDER_WAY.append(asked)
    await until(lambda: running.simulator.requests.total())


async def answered(running: Service) -> None:
    """A request with the same key has been answered, by more than can be kept."""
    running.serve(idempotency=Keeping(max_bytes=65_536))
    await chat(running.sdk(), extra_headers={"idempotency-key": "k", "x-simulator-padding": "20000"})


STALLED = {"x-simulator-stall-after": "0"}
UNDER_WAY: list[asyncio.Task[Any]] = []


@dataclass(frozen=True)
class Case:
    """How an error comes about, and what it is to the SDK. ``meanwhile``: what happens once the upstream was asked."""

    error: ApiError
    raises: type[openai.APIError]
    arrange: Callable[[Service], Awaitable[None]] = nothing
    call: Callable[[Sdk], Any] = chat
    key: str = KEY
    meanwhile: Callable[[Service], None] | None = None
    patches: tuple[tuple[Any, str, Any], ...] = field(default=())


def keyed(**more: str) -> Callable[[Sdk], Any]:
    return lambda sdk: chat(sdk, extra_headers={"idempotency-key": "k", **more})


OFF = (Upstream(name="gone", base_url=f"http://127.0.0.1:{NOBODY}"),)
OTHERS = (Upstream(name="others", base_url="http://127.0.0.1:1", models=("o3*",)),)
NANO = Budget(amount_nano_usd=10, window=Window.DAY)
LONG = "x" * 300_000
SERVER = openai.InternalServerError
CASES = {
    "MISSING_KEY": Case(
        errors.MISSING_KEY,
        openai.AuthenticationError,
        call=lambda sdk: chat(sdk, extra_headers={"Authorization": openai.Omit()}),
    ),
    "WRONG_KEY": Case(errors.WRONG_KEY, openai.AuthenticationError, key="tn_abcdefghijkl_wrong"),
    "EXPIRED_KEY": Case(
        errors.EXPIRED_KEY,
        openai.AuthenticationError,
        serves(keys=(key_record(expires_at=datetime(2020, 1, 1, tzinfo=UTC)),)),
    ),
    "DRAINING": Case(errors.DRAINING, SERVER, sets("draining", True)),
    "DRAIN_DEADLINE": Case(
        errors.DRAIN_DEADLINE,
        SERVER,
        call=lambda sdk: chat(sdk, **told(stall_after=0)),
        meanwhile=lambda running: running.engine.end_all(),
    ),
    "OVERLOADED": Case(
        errors.OVERLOADED, SERVER, patches=((protocol, "MAX_CONNECTIONS", -1), (protocol, "RESERVED_SECONDS", 60.0))
    ),
    "NO_ROOM": Case(
        errors.NO_ROOM,
        SERVER,
        sets("max_held_bytes", 0),
        lambda sdk: chat(sdk, messages=[{"role": "user", "content": LONG * 10}]),
    ),
    "LIMITS_UNKNOWN": Case(errors.LIMITS_UNKNOWN, SERVER, sets("limiter", Away())),
    "LEDGER_FULL": Case(errors.LEDGER_FULL, SERVER, sets("ledger", Unwritable(accepting=False))),
    "NO_UPSTREAM": Case(errors.NO_UPSTREAM, SERVER, serves(upstreams=OTHERS)),
    "HEAD_TOO_LARGE": Case(
        errors.HEAD_TOO_LARGE, openai.APIStatusError, call=lambda sdk: chat(sdk, extra_headers={"x-big": "y" * 70_000})
    ),
    "UPSTREAM_UNREACHABLE": Case(errors.UPSTREAM_UNREACHABLE, SERVER, serves(upstreams=OFF)),
    "UPSTREAM_SUSPENDED": Case(
        errors.UPSTREAM_SUSPENDED, SERVER, suspended, patches=((breaker, "OPEN_SECONDS", 3600.0),)
    ),
    "NO_CONNECTION": Case(errors.NO_CONNECTION, SERVER, patches=((pool, "MAX_WAITING", 0),)),
    "UPSTREAM_INVALID": Case(errors.UPSTREAM_INVALID, SERVER, call=lambda sdk: chat(sdk, **told(die_after=0))),
    "UPSTREAM_INTERRUPTED": Case(
        errors.UPSTREAM_INTERRUPTED,
        openai.APIError,
        call=lambda sdk: chat(sdk, stream=True, **told(die_after=3, gap_ms=1)),
    ),
    "UPSTREAM_TIMEOUT": Case(
        errors.UPSTREAM_TIMEOUT, SERVER, hurries(Timer.FIRST_BYTE), lambda sdk: chat(sdk, **told(stall_after=0))
    ),
    "UPSTREAM_STALLED": Case(
        errors.UPSTREAM_STALLED,
        openai.APIError,
        hurries(Timer.IDLE),
        lambda sdk: chat(sdk, stream=True, **told(stall_after=3)),
    ),
    "UPSTREAM_CREDENTIALS": Case(errors.UPSTREAM_CREDENTIALS, SERVER, refuses_our_credential),
    "IN_PROGRESS": Case(errors.IN_PROGRESS, openai.ConflictError, under_way, keyed(**STALLED)),
    "KEY_OF_ANOTHER": Case(
        errors.KEY_OF_ANOTHER,
        openai.ConflictError,
        answered,
        lambda sdk: chat(sdk, user="another", extra_headers={"idempotency-key": "k"}),
    ),
    "NOT_KEPT": Case(errors.NOT_KEPT, openai.ConflictError, answered, keyed()),
    "INTERNAL": Case(errors.INTERNAL, SERVER, sets("ledger", Unwritable(accepting=True))),
    "malformed": Case(
        errors.malformed(
            "Invalid value for 'max_tokens': Expected `int | float | null`, got `str`.", param="max_tokens"
        ),
        openai.BadRequestError,
        call=lambda sdk: chat(sdk, max_tokens="many"),
    ),
    "malformed, undeclared": Case(
        errors.malformed(
            "This endpoint wants to know how much a request generates at most: set 'max_completion_tokens'.",
            param="max_completion_tokens",
            code="max_tokens_required",
        ),
        openai.BadRequestError,
        serves(limits=Limits(require_declared_max_tokens=True)),
    ),
    "malformed, not priced": Case(
        errors.malformed(
            "The model `home-made` has no price here. Ask the platform team to set one.",
            param="model",
            code="model_not_priced",
        ),
        openai.BadRequestError,
        serves(unknown_model=UnknownModel.REFUSE),
        lambda sdk: chat(sdk, model="home-made"),
    ),
    "route_not_found": Case(
        errors.route_not_found("POST", "/v1/organization/users"),
        openai.NotFoundError,
        call=lambda sdk: sdk.post("/organization/users", cast_to=object),
    ),
    "method_not_allowed": Case(
        errors.method_not_allowed("PUT", "/v1/embeddings", "POST"),
        openai.APIStatusError,
        call=lambda sdk: sdk.put("/embeddings", cast_to=object),
    ),
    "model_not_found": Case(
        errors.model_not_found("gpt-4o-mini"), openai.NotFoundError, serves(models=Models(allow=("gpt-5*",)))
    ),
    "body_too_large": Case(
        errors.body_too_large(1000),
        openai.APIStatusError,
        serves(max_body_bytes=1000),
        lambda sdk: chat(sdk, messages=[{"role": "user", "content": LONG}]),
    ),
    "rate_limited": Case(
        errors.rate_limited("tokens per min (TPM)", 10, 42, None),
        openai.RateLimitError,
        serves(limits=Limits(tokens_per_minute=10)),
        lambda sdk: chat(sdk, max_tokens=10),
    ),
    "BUDGET_EXHAUSTED": Case(errors.BUDGET_EXHAUSTED, openai.RateLimitError, serves(budget=NANO)),
    "KEY_BUDGET_EXHAUSTED": Case(
        errors.KEY_BUDGET_EXHAUSTED,
        openai.RateLimitError,
        serves(keys=(key_record(budget=NANO, limits=KeyLimits()),)),
    ),
}
#: The SDK does not pause within a request, and a WebSocket is refused to another library.
NOT_BY_THE_SDK = {"BODY_TIMEOUT", "upstream_refused"}


def test_every_error_there_is_has_its_case() -> None:
    constants = {name for name, value in vars(errors).items() if isinstance(value, ApiError)}
    made = {
        name
        for name, value in vars(errors).items()
        if getattr(value, "__annotations__", {}).get("return") is ApiError and not name.startswith("_")
    }
    assert {name.partition(",")[0] for name in CASES} == (constants | made) - NOT_BY_THE_SDK


def finish(found: Any) -> None:
    if isinstance(found, openai.Stream):
        list(found)


async def asynchronously(running: Service, case: Case) -> None:
    async with running.sdk(case.key) as sdk:
        found = await case.call(sdk)
        if isinstance(found, openai.AsyncStream):
            async for _ in found:
                pass


async def synchronously(running: Service, case: Case) -> None:
    def call() -> None:
        with running.sync_sdk(case.key) as sdk:
            finish(case.call(sdk))

    await asyncio.to_thread(call)


@pytest.mark.parametrize("how", [asynchronously, synchronously])
@pytest.mark.parametrize("name", CASES)
async def test_an_error_is_raised_as_what_it_is(
    running: Service, monkeypatch: pytest.MonkeyPatch, name: str, how: Callable[[Service, Case], Awaitable[None]]
) -> None:
    case = CASES[name]
    for where, what, value in case.patches:
        monkeypatch.setattr(where, what, value)
    await case.arrange(running)
    asking = asyncio.ensure_future(how(running, case))
    if case.meanwhile is not None:
        await until(lambda: running.simulator.requests.total())
        case.meanwhile(running)
    with pytest.raises(case.raises) as caught:
        await asking
    for task in UNDER_WAY:
        task.cancel()
    UNDER_WAY.clear()
    error, seen = case.error, caught.value
    assert (seen.code, seen.type, seen.param) == (error.code, error.type, error.param)
    if name == "rate_limited":
        assert "Limit 10, Requested " in seen.message
    else:
        assert error.message in seen.message
    if isinstance(seen, openai.APIStatusError):
        assert seen.status_code == error.status
        got = seen.response.headers
        assert {key.decode(): got.get(key.decode()) for key, _ in error.headers} == {
            key.decode(): value.decode() for key, value in error.headers
        }
        # The SDK itself repeats what may be repeated, and nothing else.
        assert got.get("x-should-retry") in (None, "false")
    await until(lambda: not running.engine.telemetry.in_flight or name == "IN_PROGRESS")

"""Bring one tenant to its declared state."""

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from tenantry_operator import deletion, logs
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.apply.kinds import GROUP_KINDS
from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.events import Recorder
from tenantry_operator.live import Live
from tenantry_operator.look import Lookout
from tenantry_operator.plan.assess import assess, failed, pause, unguarded
from tenantry_operator.plan.desired import Platform
from tenantry_operator.plan.facts import Assessment, Facts, Failure, State
from tenantry_operator.queue import Turn
from tenantry_operator.redis.accounts import Accounts
from tenantry_operator.render import Renderer
from tenantry_operator.report import Reporter
from tenantry_operator.steps import Steps

#: From this failed attempt on the status says so; before, a failure is a hiccup that the next attempt makes good.
PATIENCE = 5
#: From this one on the tenant counts as stalled.
GIVEN_UP = 12

#: No step is done twice in one turn: what changes under our hands waits for the next.
CHANGING = "objects changed while they were being applied"
AGAIN = 5.0


class Watcher(Protocol):
    """Who goes by what a reconcile has found, beside it (scaling)."""

    def tell(self, facts: Facts, assessment: Assessment) -> None:
        """A tenant was looked at."""

    def forget(self, tenant: str) -> None:
        """It is gone."""


class Reconciler:
    """``reconcile``, and what it needs. What is held in memory are hints; all of it can be read anew."""

    def __init__(
        self,
        *,
        client: Client,
        live: Live,
        renderer: Renderer,
        recorder: Recorder,
        platform: Platform,
        accounts: Accounts | None = None,
        watcher: Watcher | None = None,
        wake: Callable[[str], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._live, self._accounts, self._now = client, live, accounts, now
        self._watcher, self._wake = watcher, wake
        self._lookout = Lookout(live, renderer, platform)
        self._reporter = Reporter(client=client, live=live, recorder=recorder, platform=platform, now=now, clock=clock)
        steps = Steps(
            client=client,
            live=live,
            lookout=self._lookout,
            renderer=renderer,
            reporter=self._reporter,
            platform=platform,
            accounts=accounts,
            now=now,
        )
        self._guard, self._ask_again, self._forget = steps.guard, steps.ask_again, steps.forget
        self._steps: Mapping[State, Callable[[Facts], Awaitable[Facts]]] = {
            State.UNPREPARED: steps.prepare,
            State.UNCLAIMED: steps.claim,
            State.KEYLESS: steps.issue,
            State.OUTDATED: steps.apply,
            State.DRIFTED: steps.put_back,
        }

    async def reconcile(self, name: str, turn: Turn) -> float | None:
        """Bring one tenant to its declared state; gives the seconds until it should be looked at again, or None.

        Level-triggered: what happened before does not matter. Deletion is looked at first. Otherwise the state is
        asked for and its step done, until a state has none; the status is written once, at the end. Exits:

        - the Tenant is unknown: nothing to do;
        - it is being deleted: ``deletion.delete`` does what can be done now and says when to come back;
        - a state without a step: healthy, on its way, blocked or suspended; the status says which (that it is on its
          way only after a moment, since mostly it has arrived by then). While it is blocked its fences are kept;
          pods that its quota refused are asked for again in any of them, once there is room;
        - a step was refused in a way that only a change can heal (``Failure``): the status says what has to change;
        - anything else that went wrong (``KubeError``) is raised, and the queue comes back with growing patience.
        """
        record = self._live.tenants.get(name)
        if record is None:
            self._lookout.forget(name)
            self._reporter.forget(name)
            self._forget(name)
            if self._watcher is not None:
                self._watcher.forget(name)
            self._wake_takers()
            return None
        logs.bind(tenant=name, generation=record.meta.generation, attempt=turn.attempt)
        facts = self._reporter.recall(self._lookout.look(record, turn, self._now()))
        self._wake_takers()
        assessment = assess(facts, GROUP_KINDS)
        try:
            if assessment.state is State.DELETING:
                self._tell(facts, assessment)
                return await deletion.delete(
                    self._client, self._live, self._reporter, self._accounts, facts, assessment
                )
            taken: set[State] = set()
            while (step := self._steps.get(assessment.state)) is not None:
                if assessment.state in taken:
                    raise Failure(Reason.PROGRESSING_WITH_RETRY, CHANGING, stalled=False, requeue=AGAIN)
                taken.add(assessment.state)
                facts = await step(facts)
                assessment = assess(facts, GROUP_KINDS)
            if unguarded(facts, assessment):
                facts = await self._guard(facts)
            facts = await self._ask_again(facts)
        except Failure as failure:
            assessment = failed(failure, drifted=assessment.state is State.DRIFTED)
        except errors.KubeError as error:
            if turn.attempt >= PATIENCE and not isinstance(error, errors.WritesForbidden):
                await self._reporter.report(facts, failed(_hiccup(error, turn.attempt)))
            raise
        if self._accounts is not None and _is_applied(facts):
            self._accounts.delivered(name)
        await self._reporter.drift(facts)
        self._tell(facts, assessment)
        if (held := self._reporter.hold(facts, assessment)) is not None:
            return held
        record = await self._reporter.report(facts, assessment)
        # The answer to our write may hold a change that the watch will now count as an echo.
        return 0.0 if _moved(facts.meta, record.meta) else pause(assessment, facts.next_due, self._now())

    def _wake_takers(self) -> None:
        for tenant in self._lookout.takers():
            self._wake(tenant)

    def _tell(self, facts: Facts, assessment: Assessment) -> None:
        if self._watcher is not None:
            self._watcher.tell(facts, assessment)

    async def unforeseen(self, name: str, turn: Turn, error: Exception) -> None:
        """Show a bug in the status, once it is certain that it is no passing one."""
        record = self._live.tenants.get(name)
        if record is not None and turn.attempt >= PATIENCE:
            note = f"after {turn.attempt} attempts: {type(error).__name__}; the operator's log says more"
            assessment = failed(Failure(Reason.INTERNAL_ERROR, note))
            # Not looked at any closer: the bug may be in there.
            facts = Facts(
                now=self._now(), meta=record.meta, status=record.status, tenant=record.tenant, spec=assessment
            )
            await self._reporter.report(facts, assessment)


def _is_applied(facts: Facts) -> bool:
    applied, wanted = facts.status.applied, facts.wanted
    return applied is not None and wanted is not None and applied.digest == wanted.digest


def _moved(before: ObjectMeta, after: ObjectMeta) -> bool:
    return (before.uid, before.generation, before.deletion_timestamp, before.labels, before.annotations) != (
        after.uid,
        after.generation,
        after.deletion_timestamp,
        after.labels,
        after.annotations,
    )


def _hiccup(error: errors.KubeError, attempt: int) -> Failure:
    given_up = attempt >= GIVEN_UP
    if isinstance(error, errors.Forbidden):
        return Failure(Reason.APPLY_FORBIDDEN, f"after {attempt} attempts: {error}")
    reason = Reason.RETRIES_EXCEEDED if given_up else Reason.PROGRESSING_WITH_RETRY
    return Failure(reason, f"after {attempt} attempts: {error}", stalled=given_up)

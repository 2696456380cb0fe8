"""Pods that the namespace's quota refused: when they are to be asked for again.

A ReplicaSet controller that is refused a pod asks again after pauses that double, up to 1,000 s (the rate limiter of
its queue), and nothing tells it that the quota has room again. A change of the ReplicaSet does: whatever is annotated
on a Deployment its controller copies to the newest ReplicaSet, which is then looked at without a pause.
https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/replicaset/replica_set.go (``updateRS``)
https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/deployment/util/deployment_util.go
(``SetNewReplicaSetAnnotations``)
"""

from datetime import datetime, timedelta

from tenantry_operator.plan.facts import Facts
from tenantry_operator.plan.observed import Workload

#: Between the first two times that pods are asked for: the controllers need a moment to say what came of it. Whoever
#: lacks room that we do not see, such as another quota's, is asked for less and less often.
PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)


def by_quota(workload: Workload) -> bool:
    """Whether pods are lacking because a quota has no room for them, in the words of the API server's admission."""
    return "exceeded quota" in workload.refused


def pause(asked: int) -> timedelta:
    """How long nobody asks, after having asked so many times in vain."""
    return min(PAUSE * (1 << min(max(asked - 1, 0), 10)), LONGEST_PAUSE)


def ask_again(facts: Facts, asked: int = 0) -> datetime | None:
    """When pods are to be asked for again, having been so ``asked`` times in vain.

    None: none was refused, or the chart's quota has no room yet (its watch tells when).
    """
    if facts.workload is None or not by_quota(facts.workload) or any(each.full for each in facts.children):
        return None
    last = facts.workload.asked_again
    # A time to come is another clock's, and says nothing about ours; asking puts our own there.
    return facts.now if last is None or last > facts.now else max(facts.now, last + pause(asked))

"""Spot nodes get a notice and are killed at its deadline, under load; then one is drained: clients notice nothing."""

import pytest

from tests.bench.spot.load import Shape
from tests.bench.spot.soak import Plan, run
from tests.bench.spot.stage import Stage
from tests.e2e.world import World

#: A load that a machine with two cores serves beside the clients. The notice is the real one; once all are replaced the
#: node's end comes nearer, which leaves pods 45 seconds for their streams. `make soak-spot` waits for the whole notice,
#: with more load, several nodes at a time, a hundred times.
PLAN = Plan(
    interruptions=3,
    drains=1,
    notice=120,
    sooner=60,
    load=Shape(requests_per_second=10, streams=8, shortest=2, longest=10),
    drained_load=Shape(requests_per_second=4, streams=3, shortest=2, longest=10),
)


@pytest.mark.timeout(1500)
def test_interrupted_and_drained_nodes_cost_no_request_and_no_stream(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.kind is not None, "nodes are killed here: only on a cluster that these tests have made"

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", end="", flush=True)

    found = run(Stage.of(world.kind, world.target.kubectl), PLAN, say)
    with capsys.disabled():
        print()
        found.print()
    assert found.interruptions == PLAN.interruptions
    assert found.served.requests > 500
    assert found.served.streams > 30
    assert len(found.replacement_s) >= PLAN.interruptions, "no tenant was on the nodes, or none was replaced in time"
    assert found.served.failed_requests == 0, found.served.failures
    assert found.served.cut_streams == 0, found.served.failures

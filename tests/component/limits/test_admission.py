"""Several processes ask one Redis for far more than there is: nothing goes beyond the limits."""

import pytest
from localcluster.datastores import Redis

from tests.bench.limits import admission

#: Of twelve tenants together: each is asked for some twenty times a minute's worth or more.
RESERVES = 24_000


@pytest.mark.usefixtures("today")  # a budget of the day begins anew with the next one
def test_processes_that_ask_for_too_much_together_get_what_the_limits_allow() -> None:
    with Redis(appendonly=False) as server:
        found = admission.run(server.url, RESERVES, processes=3, connections=4, seed=7)
    assert found.over == 0
    # What is left over is less than one request's worth, and what has flowed in since the last one asked.
    assert found.utilisation > 0.5, "they were held back by the limits and by nothing else"
    for most, limit in found.most_slots.values():
        assert most <= limit

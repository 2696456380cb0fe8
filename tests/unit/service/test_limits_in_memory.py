"""The memory store keeps the laws of limits."""

from hypothesis import settings

from tests.unit.service.limits_law import LimitsMachine
from tests.unit.service.memory_store import MemoryStore


class MemoryMachine(LimitsMachine):
    new_store = MemoryStore


TestLimitsInMemory = MemoryMachine.TestCase
TestLimitsInMemory.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

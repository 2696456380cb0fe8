"""What rendering costs: `python -m tests.bench.render [--tenants N]`. A table, and as the last line one JSON object.

Every tenant is one of its own, so that nothing is cached in the first round; the second round finds all of it. CPU is
what is told apart from whatever else the machine does; wall time is what a waiting operator sees.
"""

import argparse
import asyncio
import json
import resource
import time
from pathlib import Path

from tenantry_operator.api.decode import decode_tenant, decode_tier
from tenantry_operator.api.resolve import resolve
from tenantry_operator.plan import desired
from tenantry_operator.plan.keys import IssuedKey
from tenantry_operator.render.helm import HelmRenderer
from tenantry_operator.render.helper import Helper

from tests.cluster.operator_process import renderer as renderer_program

CHART = Path(__file__).resolve().parents[2] / "charts" / "tenant"
PLATFORM = desired.Platform(namespace="tenantry-system", image_repository="tenantry", image_tag="dev")
TIER = decode_tier(
    {
        "metadata": {"name": "standard"},
        "spec": {
            "upstreams": [{"name": "openai", "baseURL": "https://api.openai.com/v1", "credentialsSecret": "openai"}],
            "limits": {"requestsPerMinute": 600, "tokensPerMinute": 1_000_000, "concurrentRequests": 64},
            "budget": {"amount": "500"},
            "autoscaling": {"minReplicas": 1, "maxReplicas": 5},
            "owners": [{"kind": "Group", "name": "team"}],
        },
    }
)


def values(number: int) -> dict[str, object]:
    """The values that the operator hands to the chart for one tenant of the tier."""
    name = f"bench-{number}"
    spec = resolve(decode_tenant({"metadata": {"name": name}, "spec": {"tier": "standard"}}), TIER)
    key = IssuedKey(name="default", id="abcdefghij23", sha256="0" * 64)
    return desired.values(name, spec, desired.policy(name, 1, spec, [key]), PLATFORM)


async def measure(tenants: int) -> dict[str, float]:
    """Render each tenant once, then once more from the cache."""
    everything = [(f"bench-{number}", f"tenant-bench-{number}", values(number)) for number in range(tenants)]
    renderer = HelmRenderer(CHART, helper=Helper([renderer_program(), str(CHART)]), cache_entries=tenants)
    await renderer.start()
    before, cpu = time.perf_counter(), time.process_time()
    first = await asyncio.gather(*(renderer.render(*each) for each in everything))
    wall, own = time.perf_counter() - before, time.process_time() - cpu
    before = time.perf_counter()
    for each in everything:
        await renderer.render(*each)
    cached = time.perf_counter() - before
    await renderer.close()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "tenants": tenants,
        "objects_per_tenant": len(first[0]),
        "render_ms": round(wall / tenants * 1e3, 3),
        "render_cpu_ms": round((used.ru_utime + used.ru_stime) / tenants * 1e3, 3),
        "operator_cpu_ms": round(own / tenants * 1e3, 3),
        "cached_ms": round(cached / tenants * 1e3, 3),
        "helper_rss_mb": round(used.ru_maxrss / 1024, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=1000)
    figures = asyncio.run(measure(parser.parse_args().tenants))
    meaning = {
        "tenants": "tenants, each rendered once",
        "objects_per_tenant": "objects of each",
        "render_ms": "wall time per tenant, ms",
        "render_cpu_ms": "CPU of the helper per tenant, ms",
        "operator_cpu_ms": "CPU of the operator per tenant, ms",
        "cached_ms": "wall time from the cache, ms",
        "helper_rss_mb": "memory of the helper, MB",
    }
    for name, text in meaning.items():
        print(f"{text:<36} {figures[name]:>10g}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

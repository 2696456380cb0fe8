"""Metrics: what Prometheus reads, and that labels stay closed."""

from prometheus_client.parser import text_string_to_metric_families
from tenantry_service.errors import ErrorType
from tenantry_service.telemetry import Histogram, PolicyInfo, Telemetry


def samples(telemetry: Telemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(telemetry.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


def test_what_was_counted_is_what_prometheus_reads() -> None:
    telemetry = Telemetry()
    telemetry.policies = (PolicyInfo("acme", "abc", 3),)
    series = telemetry.series("chat", "gpt-4o")
    series.ended[ErrorType.NONE.value] = 2
    series.input_tokens = 7
    series.duration.observe(0.05)
    found = samples(telemetry)
    common = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "gpt-4o"}
    assert found["tenantry_requests_total", labels(**common, error_type="none")] == 2
    assert found["gen_ai_client_token_usage_tokens_total", labels(**common, gen_ai_token_type="input")] == 7
    assert found["gen_ai_server_request_duration_seconds_bucket", labels(**common, le="0.04")] == 0
    assert found["gen_ai_server_request_duration_seconds_bucket", labels(**common, le="0.08")] == 1
    assert found["gen_ai_server_request_duration_seconds_count", labels(**common)] == 1
    assert found["tenantry_policy_info", labels(tenant="acme", revision="abc", generation="3")] == 1


def test_a_histogram_puts_a_value_on_a_bound_into_that_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 1.0), ("2.0", 2.0), ("+Inf", 3.0)]

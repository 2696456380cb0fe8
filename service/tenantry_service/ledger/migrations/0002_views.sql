-- One row per request as it stands: the row that billed it and its corrections together.
CREATE VIEW usage_requests AS
SELECT
    coalesce(corrects, event_id) AS request_id,
    tenant,
    min(key_id) AS key_id,
    min(key_name) AS key_name,
    min(started_at) AS started_at,
    max(occurred_at) AS occurred_at,
    min(route) AS route,
    max(served_model) AS model,
    sum(input_tokens)::bigint AS input_tokens,
    sum(cached_input_tokens)::bigint AS cached_input_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(reasoning_tokens)::bigint AS reasoning_tokens,
    sum(nano_usd)::bigint AS nano_usd,
    bool_or(estimated) AND count(*) = 1 AS estimated,
    count(*) - 1 AS corrections
FROM usage_events
GROUP BY coalesce(corrects, event_id), tenant;

CREATE VIEW usage_by_day AS
SELECT day, tenant, model,
    sum(requests)::bigint AS requests,
    sum(input_tokens)::bigint AS input_tokens,
    sum(cached_input_tokens)::bigint AS cached_input_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(nano_usd)::bigint AS nano_usd,
    (sum(nano_usd) / 1000000000.0)::numeric(20, 9) AS usd,
    sum(estimated)::bigint AS estimated
FROM usage_daily
GROUP BY day, tenant, model;

CREATE VIEW usage_by_month AS
SELECT date_trunc('month', day)::date AS month, tenant,
    sum(requests)::bigint AS requests,
    sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(nano_usd)::bigint AS nano_usd,
    (sum(nano_usd) / 1000000000.0)::numeric(20, 9) AS usd
FROM usage_daily
GROUP BY 1, tenant;

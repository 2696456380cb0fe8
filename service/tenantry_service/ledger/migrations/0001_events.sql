-- Every event once. The id carries the moment it was made (created_at), so unique per partition is unique for ever.
CREATE TABLE usage_events (
    event_id text NOT NULL,
    created_at timestamptz NOT NULL,
    tenant text NOT NULL,
    key_id text NOT NULL,
    started_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    duration_ms bigint NOT NULL,
    route text NOT NULL,
    requested_model text NOT NULL,
    served_model text NOT NULL,
    upstream text NOT NULL,
    status smallint NOT NULL,
    error_type text NOT NULL,
    stream boolean NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    nano_usd bigint NOT NULL,
    estimated boolean NOT NULL,
    price_version text NOT NULL,
    policy_revision text NOT NULL,
    usage text,
    cache_write_tokens bigint NOT NULL DEFAULT 0,
    audio_input_tokens bigint NOT NULL DEFAULT 0,
    audio_output_tokens bigint NOT NULL DEFAULT 0,
    image_input_tokens bigint NOT NULL DEFAULT 0,
    image_output_tokens bigint NOT NULL DEFAULT 0,
    service_tier text NOT NULL DEFAULT '',
    key_name text NOT NULL DEFAULT '',
    -- The event that this row corrects: its figures are then differences, and it counts no request.
    corrects text,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, created_at)
) PARTITION BY RANGE (created_at);
COMMENT ON TABLE usage_events IS 'Append-only: a row is never changed; what was wrong is corrected by another row';
CREATE INDEX usage_events_by_tenant ON usage_events (tenant, started_at);

-- Sums, kept in the transaction that adds the rows they sum. Days are UTC days of the request's beginning.
CREATE TABLE usage_daily (
    day date NOT NULL,
    tenant text NOT NULL,
    -- Keys rotate, their names stay.
    key_name text NOT NULL,
    model text NOT NULL,
    requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    nano_usd bigint NOT NULL,
    estimated bigint NOT NULL,
    -- Of the rows summed: the month of created_at, by which partitions go; almost always that of the day.
    month date NOT NULL,
    PRIMARY KEY (tenant, day, key_name, model, month)
);

-- What came as an event and is none, or none that can be billed: kept as it came, for somebody to look at.
CREATE TABLE usage_dead_letters (
    stream text NOT NULL,
    entry_id text NOT NULL,
    reason text NOT NULL,
    payload bytea NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, entry_id)
);

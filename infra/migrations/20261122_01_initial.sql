-- requests, responses and cache entries
-- depends:

-- migrate: apply

CREATE EXTENSION IF NOT EXISTS vector;

-- Requests and responses are append-only and keyed by the request's id alone, which makes a repeated insert harmless
-- however late it comes. Ids made here begin with the time (UUID version 7), so a range of ids is a range of time, and
-- partitions by id are partitions by day: old ones are dropped, not deleted from. Ids derived from a client's key
-- begin with "f" and live in a partition of their own. See docs/decisions/0003-ids.md.
CREATE TABLE requests (
    id           uuid        PRIMARY KEY,
    tenant       text        NOT NULL,
    priority     text        NOT NULL,
    digest       text        NOT NULL,
    accepted_at  timestamptz NOT NULL,
    body         jsonb       NOT NULL
) PARTITION BY RANGE (id);

CREATE TABLE responses (
    id           uuid             PRIMARY KEY,
    tenant       text             NOT NULL,
    status       text             NOT NULL,
    source       text,
    tier         text,
    code         text,
    cost_usd     double precision NOT NULL,
    saved_usd    double precision NOT NULL,
    completed_at timestamptz      NOT NULL,
    body         jsonb            NOT NULL
) PARTITION BY RANGE (id);

CREATE TABLE requests_keyed PARTITION OF requests
    FOR VALUES FROM ('f0000000-0000-0000-0000-000000000000') TO (MAXVALUE);
CREATE TABLE responses_keyed PARTITION OF responses
    FOR VALUES FROM ('f0000000-0000-0000-0000-000000000000') TO (MAXVALUE);

-- Never the place of a healthy row: it keeps the writer going should a day's partition be missing.
CREATE TABLE requests_stray PARTITION OF requests DEFAULT;
CREATE TABLE responses_stray PARTITION OF responses DEFAULT;

-- The least id that can be made on or after a time.
CREATE FUNCTION forebay_first_id(since timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex((extract(epoch FROM since) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Make the partitions of today (UTC) and the days after it; those that exist are left alone. Returns how many were made.
CREATE FUNCTION forebay_ensure_partitions(days integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    day   date;
    name  text;
    made  integer := 0;
    kind  text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('forebay_ensure_partitions'));
    FOR ahead IN 0 .. days LOOP
        day := today + ahead;
        FOREACH kind IN ARRAY ARRAY['requests', 'responses'] LOOP
            name := kind || to_char(day, '_YYYYMMDD');
            CONTINUE WHEN to_regclass(name) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', name, kind,
                               forebay_first_id(day::timestamp AT TIME ZONE 'UTC'),
                               forebay_first_id((day + 1)::timestamp AT TIME ZONE 'UTC'));
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                -- Rows of that day are in the stray partition already, and stay there.
                NULL;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

SELECT forebay_ensure_partitions(7);

-- Cache entries are found within their scope only, so scope is the partition: a search reads one small index.
CREATE TABLE cache_entries (
    scope      uuid             NOT NULL,
    exact      uuid             NOT NULL,
    entry_id   uuid             NOT NULL,
    tenant     text             NOT NULL,
    prompt     text             NOT NULL,
    embedding  halfvec(384),
    answer     text             NOT NULL,
    model      text             NOT NULL,
    tier       text             NOT NULL,
    category   text             NOT NULL,
    cost_usd   double precision NOT NULL,
    stored_at  timestamptz      NOT NULL,
    expires_at timestamptz      NOT NULL,
    PRIMARY KEY (scope, exact)
) PARTITION BY HASH (scope);

DO $$
BEGIN
    FOR part IN 0 .. 15 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF cache_entries FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                       'cache_entries_' || to_char(part, 'FM00'), part);
    END LOOP;
END
$$;

CREATE INDEX cache_entries_nearest ON cache_entries USING hnsw (embedding halfvec_cosine_ops)
    WITH (m = 16, ef_construction = 64);
CREATE INDEX cache_entries_expiry ON cache_entries (expires_at);

-- migrate: rollback

DROP TABLE cache_entries;
DROP FUNCTION forebay_ensure_partitions(integer);
DROP FUNCTION forebay_first_id(timestamptz);
DROP TABLE responses;
DROP TABLE requests;

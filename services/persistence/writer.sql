-- requests: Insert requests that are not there yet, and say which were new.
INSERT INTO requests (id, tenant, priority, digest, accepted_at, body)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::jsonb[])
ON CONFLICT (id) DO NOTHING
RETURNING id

-- responses: Insert terminal results; the first one of a request is the one that counts.
INSERT INTO responses (id, tenant, status, source, tier, code, cost_usd, saved_usd, completed_at, body)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[],
                     $9::timestamptz[], $10::jsonb[])
ON CONFLICT (id) DO NOTHING
RETURNING id

-- cache_entries: Insert cache entries; a newer answer to the same prompt takes the place of an older one.
INSERT INTO cache_entries (scope, exact, entry_id, tenant, prompt, embedding, answer, model, tier, category, cost_usd,
                           stored_at, expires_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::halfvec[], $7::text[], $8::text[],
                     $9::text[], $10::text[], $11::float8[], $12::timestamptz[], $13::timestamptz[])
ON CONFLICT (scope, exact) DO UPDATE
SET (entry_id, embedding, answer, model, tier, category, cost_usd, stored_at, expires_at) =
    (excluded.entry_id, excluded.embedding, excluded.answer, excluded.model, excluded.tier, excluded.category,
     excluded.cost_usd, excluded.stored_at, excluded.expires_at)
WHERE excluded.stored_at > cache_entries.stored_at
RETURNING entry_id

-- expire: Delete some cache entries that have expired; small batches keep the ticks short and vacuum busy, not late.
DELETE FROM cache_entries
WHERE (scope, exact) IN (
    SELECT scope, exact FROM cache_entries WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- partitions: Make the partitions of the coming days.
SELECT forebay_ensure_partitions(7)

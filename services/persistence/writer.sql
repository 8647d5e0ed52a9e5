-- requests: Insert requests that are not there yet, and say which were new; of one that is replayed only that is noted.
INSERT INTO requests (id, tenant, priority, digest, accepted_at, body, replay)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::json[], $7::integer[])
ON CONFLICT (id) DO UPDATE SET replay = excluded.replay WHERE excluded.replay > requests.replay
RETURNING id

-- responses: Insert terminal results. The first one of a request is the one that counts; that of a replay takes the place
-- of an earlier run's failure, never of an answer.
INSERT INTO responses (id, tenant, status, source, tier, code, cost_usd, saved_usd, completed_at, body, answer_of, replay)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::float8[],
                     $9::timestamptz[], $10::json[], $11::uuid[], $12::integer[])
ON CONFLICT (id) DO UPDATE
SET (status, source, tier, code, cost_usd, saved_usd, completed_at, body, answer_of, replay, dropped_at) =
    (excluded.status, excluded.source, excluded.tier, excluded.code, excluded.cost_usd, excluded.saved_usd,
     excluded.completed_at, excluded.body, excluded.answer_of, excluded.replay, NULL)
WHERE responses.status = 'failed' AND excluded.replay > responses.replay
RETURNING id

-- dropped: Take failures off the list, and say which were on it; the rows are locked in the order of their keys.
WITH wanted AS (
    SELECT responses.id, at
    FROM unnest($1::uuid[], $2::timestamptz[], $3::integer[]) AS dropped (id, at, replay)
    JOIN responses ON responses.id = dropped.id AND responses.replay = dropped.replay
    WHERE status = 'failed' AND dropped_at IS NULL
    ORDER BY responses.id
    FOR UPDATE OF responses
)
UPDATE responses SET dropped_at = at FROM wanted WHERE responses.id = wanted.id
RETURNING responses.id

-- cache_audits: Insert what audits have found.
INSERT INTO cache_audits (audit_id, audited_at, tenant, kind, request_id, scope, entry_id, served, same, agreement,
                          sampled, evidence)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::uuid[],
                     $8::boolean[], $9::boolean[], $10::float8[], $11::float8[], $12::jsonb[])
ON CONFLICT (audit_id) DO NOTHING
RETURNING audit_id

-- cache_invalidations: Insert invalidations; one from the future would go on forgetting, so it counts from now.
INSERT INTO cache_invalidations (invalidation_id, invalidated_at, selector, reason)
SELECT id, least(at, clock_timestamp()), selector, reason
FROM unnest($1::uuid[], $2::timestamptz[], $3::jsonb[], $4::text[]) AS new (id, at, selector, reason)
ON CONFLICT (invalidation_id) DO NOTHING
RETURNING invalidation_id, invalidated_at, selector

-- ratings: Insert ratings; a tenant's last word on a request counts. One from the future would be the last for ever, so it
-- counts from now.
INSERT INTO ratings (request_id, tenant, rated_at, rating_id, quality, comment)
SELECT request_id, tenant, least(at, clock_timestamp()), rating_id, quality, comment
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::uuid[], $5::float8[], $6::text[])
     AS new (request_id, tenant, at, rating_id, quality, comment)
ON CONFLICT (request_id, tenant) DO UPDATE
SET (rated_at, rating_id, quality, comment) =
    (excluded.rated_at, excluded.rating_id, excluded.quality, excluded.comment)
WHERE excluded.rating_id <> ratings.rating_id
  AND (excluded.rated_at, excluded.rating_id) > (ratings.rated_at, ratings.rating_id)
RETURNING request_id, tenant

-- cache_entries: Insert cache entries; a newer answer to the same prompt takes the place of an older one.
INSERT INTO cache_entries (scope, exact, entry_id, tenant, base, embedder, prompt, embedding, answer, model, tier,
                           category, reason, cost_usd, stored_at, expires_at, keep_until)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::halfvec[],
                     $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::float8[], $15::timestamptz[],
                     $16::timestamptz[], $17::timestamptz[])
ON CONFLICT (scope, exact) DO UPDATE
SET (entry_id, tenant, base, embedder, prompt, embedding, answer, model, tier, category, reason, cost_usd, stored_at,
     expires_at, keep_until) =
    (excluded.entry_id, excluded.tenant, excluded.base, excluded.embedder, excluded.prompt, excluded.embedding,
     excluded.answer, excluded.model, excluded.tier, excluded.category, excluded.reason, excluded.cost_usd,
     excluded.stored_at, excluded.expires_at, excluded.keep_until)
WHERE excluded.stored_at > cache_entries.stored_at
RETURNING scope, exact

-- cache_uses: Add what was counted for entries.
INSERT INTO cache_uses (entry_id, hits, good, bad, saved_usd, last_hit_at, counted_at)
SELECT *, now() FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::float8[], $6::timestamptz[])
ON CONFLICT (entry_id) DO UPDATE
SET (hits, good, bad, saved_usd, last_hit_at, counted_at) =
    (cache_uses.hits + excluded.hits, cache_uses.good + excluded.good, cache_uses.bad + excluded.bad,
     cache_uses.saved_usd + excluded.saved_usd, greatest(cache_uses.last_hit_at, excluded.last_hit_at),
     excluded.counted_at)
RETURNING entry_id

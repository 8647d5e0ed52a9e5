-- partitions: Make the partitions of the coming days.
SELECT forebay_ensure_partitions(7)

-- vector_index: Make the index for vectors of the policy's embedder, unless it is there; then the column is empty of them.
SELECT forebay_ensure_vector_index($1)

-- expire: Delete some cache entries whose time is over; small batches keep the ticks short and vacuum busy, not late.
DELETE FROM cache_entries
WHERE (scope, exact) IN (
    SELECT scope, exact FROM cache_entries WHERE keep_until <= $1 ORDER BY keep_until LIMIT $2 FOR UPDATE SKIP LOCKED
)
RETURNING entry_id

-- evicting: Whether this transaction is the one that evicts: two that count the same excess would evict it twice.
SELECT pg_try_advisory_xact_lock(hashtext('forebay_eviction'))

-- about: About how many entries there are, as the planner estimates it: the density found by the last vacuum times the
-- pages of now; in a partition that was never looked at, the 40 that go on a page at the most (a row has 200 bytes).
SELECT sum(CASE WHEN relpages > 0 THEN reltuples / relpages ELSE 40 END
           * (pg_relation_size(oid) / current_setting('block_size')::integer))::bigint
FROM pg_class
JOIN pg_inherits ON inhrelid = oid
WHERE inhparent = 'cache_entries'::regclass

-- crowded: By how many entries each tenant, and all together (NULL, last), are over their bounds.
WITH sizes AS MATERIALIZED (SELECT tenant, count(*) AS entries FROM cache_entries GROUP BY tenant)
SELECT tenant, entries - $2::bigint AS excess FROM sizes WHERE entries > $2
UNION ALL
SELECT NULL, sum(entries)::bigint - $1::bigint FROM sizes HAVING sum(entries) > $1
ORDER BY tenant NULLS LAST

-- evict: Delete the least valuable of the entries (a tenant's, or NULL: of all) whose time is over next.
WITH candidates AS MATERIALIZED (
    SELECT scope, exact, entry_id, cost_usd, stored_at
    FROM cache_entries
    WHERE $1::text IS NULL OR tenant = $1
    ORDER BY keep_until
    LIMIT $3
), least AS MATERIALIZED (
    SELECT scope, exact
    FROM candidates
    LEFT JOIN cache_uses USING (entry_id)
    ORDER BY greatest(cost_usd, 1e-6) * (coalesce(hits, 0) + 1)
             / (60 + greatest(0, extract(epoch FROM $4::timestamptz - greatest(stored_at, last_hit_at)))),
             stored_at
    LIMIT $2
)
DELETE FROM cache_entries
WHERE (scope, exact) IN (
    SELECT scope, exact FROM cache_entries JOIN least USING (scope, exact) FOR UPDATE OF cache_entries SKIP LOCKED
)
RETURNING entry_id

-- unused: Delete what was counted for entries that are gone. An entry may be there twice, for two embedders.
DELETE FROM cache_uses
WHERE entry_id IN (
    SELECT entry_id FROM cache_uses AS uses
    WHERE entry_id = ANY ($1::uuid[])
      AND NOT EXISTS (SELECT FROM cache_entries AS entry WHERE entry.entry_id = uses.entry_id)
    FOR UPDATE SKIP LOCKED
)

-- sweep: Of the next uses in the order of their ids, delete those that have no entry and were counted long ago. Gives
-- the last id that was looked at; none after the last one.
WITH looked AS MATERIALIZED (
    SELECT entry_id FROM cache_uses WHERE entry_id > $1 ORDER BY entry_id LIMIT $2
), swept AS (
    DELETE FROM cache_uses
    WHERE entry_id IN (
        SELECT entry_id FROM cache_uses AS uses
        WHERE entry_id IN (SELECT entry_id FROM looked) AND counted_at < now() - $3::interval
          AND NOT EXISTS (SELECT FROM cache_entries AS entry WHERE entry.entry_id = uses.entry_id)
        FOR UPDATE SKIP LOCKED
    )
)
SELECT entry_id FROM looked ORDER BY entry_id DESC LIMIT 1

-- old_audits: Delete some audits that nobody learns from any more.
DELETE FROM cache_audits
WHERE audit_id IN (
    SELECT audit_id FROM cache_audits WHERE audited_at < $1 ORDER BY audited_at LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- old_invalidations: Delete some invalidations older than any entry that is still on its way.
DELETE FROM cache_invalidations
WHERE invalidation_id IN (
    SELECT invalidation_id FROM cache_invalidations
    WHERE invalidated_at < $1 ORDER BY invalidated_at LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- old_ratings: Delete some ratings of models and prompts of long ago.
DELETE FROM ratings
WHERE (request_id, tenant) IN (
    SELECT request_id, tenant FROM ratings WHERE rated_at < $1 ORDER BY rated_at LIMIT $2 FOR UPDATE SKIP LOCKED
)

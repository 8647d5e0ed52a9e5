-- together: Wait for who must be alone; for a transaction that brings results or entries, before anything else it does.
SELECT pg_advisory_xact_lock_shared(hashtext('forebay_entries'))

-- alone: Wait for all who bring results or entries; for one that forgets or drops, before anything else it does.
SELECT pg_advisory_xact_lock(hashtext('forebay_entries'))

-- plan_each: Plan each of the statements that follow for its own selector: a plan for any selector reads every entry.
SET LOCAL plan_cache_mode = force_custom_plan

-- forget: Delete the entries that an invalidation means.
DELETE FROM cache_entries AS entry
WHERE forebay_selected(entry, $1::jsonb, $2::timestamptz)
RETURNING entry_id

-- recent: Whether there is an invalidation on record of this time or later.
SELECT EXISTS (SELECT FROM cache_invalidations WHERE invalidated_at >= $1)

-- turn_back: Delete, of the entries a transaction has just brought, those that an invalidation on record means. Their
-- words are looked for once here, and not for each pair of the two: that took 35 microseconds a pair.
WITH brought AS MATERIALIZED (
    SELECT scope, exact, forebay_words(prompt) AS words
    FROM cache_entries
    JOIN unnest($1::uuid[], $2::uuid[]) AS keys (scope, exact) USING (scope, exact)
), said AS MATERIALIZED (
    SELECT selector, invalidated_at, forebay_words(forebay_normalised(selector->>'topic')) AS words
    FROM cache_invalidations
    WHERE invalidated_at >= $3 -- when the oldest of the entries was stored
)
DELETE FROM cache_entries AS entry
USING brought, said
WHERE (entry.scope, entry.exact) = (brought.scope, brought.exact)
  AND (said.words IS NULL OR brought.words @> said.words)
  AND forebay_selected(entry, said.selector, said.invalidated_at)
RETURNING entry.entry_id

-- recent: The latest invalidations on record since a time, newest first.
SELECT invalidation_id, invalidated_at, selector, reason
FROM cache_invalidations
WHERE invalidated_at > $1
ORDER BY invalidated_at DESC
LIMIT $2

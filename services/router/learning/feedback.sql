-- rated: Ratings given between two times, the newest first: what was asked, where it ran and by what chance, how good it was.
-- Left out is what the router had no part in: answers of the cache, and those of another tier than the one it picked by
-- that chance, because a provider failed or a cascade tried others first.
SELECT q.id, q.tenant, q.priority, q.digest, q.accepted_at, q.body AS asked, a.tier,
       (a.body->'route'->>'chance')::float8 AS chance, r.quality
FROM ratings AS r
JOIN responses AS a ON a.id = r.request_id AND a.tenant = r.tenant
JOIN requests AS q ON q.id = r.request_id AND q.tenant = r.tenant
WHERE r.rated_at >= $1 AND r.rated_at < $2 AND a.source = a.tier AND ($3::text IS NULL OR r.tenant = $3)
  AND coalesce(a.body->'route'->>'tier', a.tier) = a.tier AND a.body->>'cascade' IS NULL
ORDER BY r.rated_at DESC
LIMIT $4

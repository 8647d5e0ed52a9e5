-- rated: Ratings given between two times, the newest first: what was asked, where it ran and by what chance, how good it was. Answers of the cache are not among them: the router had no part in where those came from.
SELECT q.id, q.tenant, q.priority, q.digest, q.accepted_at, q.body AS asked, a.tier,
       (a.body->'route'->>'chance')::float8 AS chance, r.quality
FROM ratings AS r
JOIN responses AS a ON a.id = r.request_id AND a.tenant = r.tenant
JOIN requests AS q ON q.id = r.request_id AND q.tenant = r.tenant
WHERE r.rated_at >= $1 AND r.rated_at < $2 AND a.source = a.tier AND ($3::text IS NULL OR r.tenant = $3)
ORDER BY r.rated_at DESC
LIMIT $4

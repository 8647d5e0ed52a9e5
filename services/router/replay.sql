-- routed: Requests that were run between two times, the newest first: what was asked, where it ran, and what that took. The embedding is there where the answer was kept. Ids begin with the time where they are made here; those derived from a client's key come after all of them.
SELECT q.id, q.tenant, q.priority, q.digest, q.accepted_at, q.body AS asked, a.tier, a.body->>'model' AS model, a.cost_usd,
       coalesce((a.body->'usage'->>'input_tokens')::int, 0) AS input_tokens,
       coalesce((a.body->'usage'->>'output_tokens')::int, 0) AS output_tokens, e.embedding::text AS embedding, e.embedder
FROM responses AS a
JOIN requests AS q USING (id)
LEFT JOIN cache_entries AS e ON e.entry_id = a.id
WHERE a.id >= forebay_first_id($1::timestamptz - interval '1 hour') AND a.completed_at >= $1 AND a.completed_at < $2
  AND a.source = a.tier AND ($3::text IS NULL OR a.tenant = $3)
ORDER BY a.completed_at DESC
LIMIT $4

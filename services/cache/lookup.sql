-- exact: The entry of this very prompt, if it has not expired.
SELECT entry_id, prompt, answer, model, tier, category, cost_usd, stored_at, expires_at, 1.0::float8 AS similarity
FROM cache_entries
WHERE scope = $1 AND exact = $2 AND expires_at > $3

-- nearest: The nearest entries of a scope that have not expired; the caller compares the similarity, because a
-- condition on it would make the index scan go on to the end.
SELECT entry_id, prompt, answer, model, tier, category, cost_usd, stored_at, expires_at,
       1.0 - (embedding <=> $2) AS similarity
FROM cache_entries
WHERE scope = $1 AND expires_at > $3
ORDER BY embedding <=> $2
LIMIT $4

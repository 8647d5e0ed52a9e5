-- lock: Whether this session is now the one that embeds anew; it is until it ends.
SELECT pg_try_advisory_lock(hashtext('forebay reembedding'))

-- count: Entries of the previous embedder that can be embedded anew.
SELECT count(*)
FROM cache_entries
WHERE expires_at > $1
  AND embedder <> $2 AND (embedder = $3 OR starts_with(embedder, $3 || '/'))

-- batch: The next of them, in the order of their ids.
SELECT entry_id, base, scope, tenant, prompt, answer, model, tier, category, cost_usd, reason, stored_at, expires_at
FROM cache_entries
WHERE expires_at > $1
  AND embedder <> $2 AND (embedder = $3 OR starts_with(embedder, $3 || '/'))
  AND (entry_id, scope) > ($4, $5)
ORDER BY entry_id, scope
LIMIT $6

-- present: Which keys have an entry already.
SELECT scope, exact
FROM cache_entries
WHERE (scope, exact) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))

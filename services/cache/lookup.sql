-- same: The entry of a very prompt, by the primary key. A place of its own for each that is asked: many are sent at once, and answered by as many rows as are found.
SELECT $1::int4 AS place, scope, exact, entry_id, tenant, prompt, answer, model, tier, category, reason, cost_usd,
       stored_at, expires_at, keep_until, coalesce(hits, 0) AS hits, coalesce(good, 0) AS good,
       coalesce(bad, 0) AS bad, 1.0::float8 AS similarity, 'exact' AS match
FROM cache_entries
LEFT JOIN cache_uses USING (entry_id)
WHERE scope = $2 AND exact = $3 AND keep_until > $4

-- near: The nearest entries of a scope. The caller compares the similarity: a condition on it would make the index scan go on to the end. The scope is a parameter by itself, not a column of a list, so that 15 of 16 partitions are left out before any of their indexes is opened.
WITH size AS MATERIALIZED (
    -- A small scope is compared whole: exact, and quicker than looking for its few entries among all others'. Counting
    -- so far takes longer than some searches, and whoever knows that a scope is large says so ($5).
    SELECT $5::bool OR EXISTS (SELECT FROM cache_entries WHERE scope = $2 OFFSET :small) AS large
)
SELECT $1::int4 AS place, large, found.*, coalesce(hits, 0) AS hits, coalesce(good, 0) AS good,
       coalesce(bad, 0) AS bad, 'semantic' AS match
FROM size
CROSS JOIN LATERAL (
    (
        SELECT scope, exact, entry_id, tenant, prompt, answer, model, tier, category, reason, cost_usd, stored_at,
               expires_at, keep_until, 1.0 - (embedding::halfvec(:dimensions) <=> $3) AS similarity
        FROM cache_entries
        WHERE scope = $2 AND keep_until > $4 AND dimensions = :dimensions AND size.large
        ORDER BY embedding::halfvec(:dimensions) <=> $3
        LIMIT :candidates
    )
    UNION ALL
    (
        SELECT scope, exact, entry_id, tenant, prompt, answer, model, tier, category, reason, cost_usd, stored_at,
               expires_at, keep_until, 1.0 - distance
        FROM (
            SELECT *, embedding::halfvec(:dimensions) <=> $3 AS distance
            FROM cache_entries
            WHERE scope = $2 AND keep_until > $4 AND dimensions = :dimensions AND NOT size.large
            OFFSET 0 -- keeps the index for vectors out of it
        ) AS small
        ORDER BY distance
        LIMIT :candidates
    )
) AS found
LEFT JOIN cache_uses USING (entry_id)

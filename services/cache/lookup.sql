-- find: For each that is asked the entry of this very prompt or, where there is none, the nearest entries of its scope. The caller compares the similarity: a condition on it would make the index scan go on to the end.
WITH asked AS MATERIALIZED (
    SELECT key.*,
           EXISTS (
               SELECT FROM cache_entries AS same
               WHERE same.scope = key.scope AND same.exact = key.exact AND same.keep_until > $4
           ) AS answered,
           -- A small scope is compared whole: exact, and quicker than looking for its few entries among all others'.
           EXISTS (SELECT FROM cache_entries AS other WHERE other.scope = key.scope OFFSET :small) AS large
    FROM unnest($1::uuid[], $2::uuid[], $3::halfvec[]) WITH ORDINALITY AS key (scope, exact, vector, place)
)
SELECT asked.place, found.*, coalesce(hits, 0) AS hits, coalesce(good, 0) AS good, coalesce(bad, 0) AS bad
FROM asked
CROSS JOIN LATERAL (
    (
        SELECT scope, exact, entry_id, tenant, prompt, answer, model, tier, category, reason, cost_usd, stored_at,
               expires_at, keep_until, 1.0::float8 AS similarity, 'exact' AS match
        FROM cache_entries
        WHERE scope = asked.scope AND exact = asked.exact AND keep_until > $4 AND asked.answered
    )
    UNION ALL
    (
        SELECT scope, exact, entry_id, tenant, prompt, answer, model, tier, category, reason, cost_usd, stored_at,
               expires_at, keep_until, 1.0 - (embedding::halfvec(:dimensions) <=> asked.vector), 'semantic'
        FROM cache_entries
        WHERE scope = asked.scope AND keep_until > $4 AND dimensions = :dimensions
          AND asked.vector IS NOT NULL AND NOT asked.answered AND asked.large
        ORDER BY embedding::halfvec(:dimensions) <=> asked.vector
        LIMIT :candidates
    )
    UNION ALL
    (
        SELECT scope, exact, entry_id, tenant, prompt, answer, model, tier, category, reason, cost_usd, stored_at,
               expires_at, keep_until, 1.0 - distance, 'semantic'
        FROM (
            SELECT *, embedding::halfvec(:dimensions) <=> asked.vector AS distance
            FROM cache_entries
            WHERE scope = asked.scope AND keep_until > $4 AND dimensions = :dimensions
              AND asked.vector IS NOT NULL AND NOT asked.answered AND NOT asked.large
            OFFSET 0 -- keeps the index for vectors out of it
        ) AS small
        ORDER BY distance
        LIMIT :candidates
    )
) AS found
LEFT JOIN cache_uses USING (entry_id)

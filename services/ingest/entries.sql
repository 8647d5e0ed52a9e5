-- selected: A tenant's entries that a selector means: the newest ten, and of them all the number and the times.
WITH meant AS (
    SELECT entry_id, left(prompt, 201) AS prompt, model, category, stored_at,
           count(*) OVER () AS entries, min(stored_at) OVER () AS oldest, max(stored_at) OVER () AS newest
    FROM cache_entries AS entry
    WHERE tenant = $1 AND forebay_selected(entry, $2::jsonb, $3)
    ORDER BY stored_at DESC, entry_id
    LIMIT 10
)
SELECT meant.*, coalesce(hits, 0) AS hits
FROM meant
LEFT JOIN cache_uses USING (entry_id)
ORDER BY stored_at DESC, entry_id

-- behind: The entry an answer came from; from a leader in flight the way leads on to the entry that answered the leader.
WITH RECURSIVE passed_on (id, step) AS (
    SELECT $1::uuid, 0
    UNION ALL
    SELECT answer_of, step + 1
    FROM passed_on
    JOIN responses USING (id)
    WHERE answer_of IS NOT NULL AND step < 5
),
origin AS (SELECT id AS entry_id FROM passed_on ORDER BY step DESC LIMIT 1)
SELECT entry_id, scope, coalesce(good, 0) AS good, coalesce(bad, 0) AS bad
FROM origin
LEFT JOIN cache_entries USING (entry_id)
LEFT JOIN cache_uses USING (entry_id)
LIMIT 1

-- served: Who was given an entry's answer since a time: a thousand of the tenant's requests, newest first, and the number
-- of others'. These are the request it was bought for, those answered from it, and those that waited for one of these.
WITH RECURSIVE given (id) AS (
    SELECT $2::uuid
    UNION
    SELECT responses.id
    FROM given
    JOIN responses ON answer_of = given.id
    WHERE completed_at >= $3
),
answers AS (
    SELECT id, tenant, completed_at, (body ->> 'similarity')::float8 AS similarity
    FROM given
    JOIN responses USING (id)
    WHERE completed_at >= $3
),
own AS (SELECT * FROM answers WHERE tenant = $1 ORDER BY completed_at DESC, id LIMIT 1000)
SELECT (SELECT count(*) FROM answers WHERE tenant <> $1) AS others,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('request_id', id, 'at', completed_at, 'similarity', similarity)
                                  ORDER BY completed_at DESC, id), '[]')
        FROM own) AS served

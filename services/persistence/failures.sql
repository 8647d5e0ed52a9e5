-- listed: Failures that are to be looked after, the oldest first, after a place in that order: neither dropped, nor being
-- replayed. A rejected submission is none of them: it was never taken, and there is nothing to run.
SELECT id, q.tenant, q.priority, q.digest, q.accepted_at, q.replay AS run, q.body AS asked,
       r.status, r.body AS result, r.replay AS ended, r.completed_at, r.dropped_at
FROM responses AS r
JOIN requests AS q USING (id)
WHERE r.status = 'failed' AND r.dropped_at IS NULL AND q.replay <= r.replay
  AND ($1::text[] IS NULL OR r.code = ANY ($1)) AND ($2::text IS NULL OR r.tenant = $2)
  AND ($3::timestamptz IS NULL OR r.completed_at >= $3) AND ($4::timestamptz IS NULL OR r.completed_at < $4)
  AND ($5::timestamptz IS NULL OR (r.completed_at, id) > ($5, $6::uuid))
ORDER BY r.completed_at, id
LIMIT $7

-- classes: The same, counted by class.
SELECT r.code, count(*) AS failures, min(r.completed_at) AS first_at, max(r.completed_at) AS last_at
FROM responses AS r
JOIN requests AS q USING (id)
WHERE r.status = 'failed' AND r.dropped_at IS NULL AND q.replay <= r.replay
  AND ($1::text[] IS NULL OR r.code = ANY ($1)) AND ($2::text IS NULL OR r.tenant = $2)
  AND ($3::timestamptz IS NULL OR r.completed_at >= $3) AND ($4::timestamptz IS NULL OR r.completed_at < $4)
GROUP BY r.code
ORDER BY failures DESC, r.code

-- named: Whatever is on record of some ids.
SELECT id, q.tenant, q.priority, q.digest, q.accepted_at, q.replay AS run, q.body AS asked,
       r.status, r.body AS result, r.replay AS ended, r.completed_at, r.dropped_at
FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, place)
LEFT JOIN requests AS q USING (id)
LEFT JOIN responses AS r USING (id)
ORDER BY place

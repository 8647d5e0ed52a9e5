-- find: What is on record of a tenant's request; a rejected one has a response and no request, and the failure of one
-- that is being replayed is its result no more.
SELECT q.digest, coalesce(q.replay, 0) AS replay, r.status, r.body
FROM (SELECT $1::uuid AS id) AS wanted
LEFT JOIN requests AS q ON q.id = wanted.id AND q.tenant = $2
LEFT JOIN responses AS r ON r.id = wanted.id AND r.tenant = $2 AND r.replay >= coalesce(q.replay, 0)
WHERE q.id IS NOT NULL OR r.id IS NOT NULL

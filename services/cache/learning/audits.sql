-- latest: The latest findings, newest first, so many of each tenant: a busy one must not make all others forgotten.
SELECT audit_id, audited_at, tenant, kind, request_id, scope, entry_id, served, same, agreement, sampled, evidence
FROM (
    SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY audited_at DESC) AS place
    FROM cache_audits
    WHERE audited_at > $1
) AS found
WHERE place <= $2
ORDER BY audited_at DESC
LIMIT $3

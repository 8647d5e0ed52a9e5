-- latest: The latest findings, newest first.
SELECT audit_id, audited_at, tenant, kind, request_id, scope, entry_id, served, same, agreement, sampled, evidence
FROM cache_audits
WHERE audited_at > $1
ORDER BY audited_at DESC
LIMIT $2

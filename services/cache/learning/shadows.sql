-- audits: The audits since a time, each of which was a call beside its request.
SELECT audit_id, audited_at
FROM cache_audits
WHERE kind = 'audit' AND audited_at > $1

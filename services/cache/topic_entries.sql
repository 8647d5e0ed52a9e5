-- candidates: Prompts that may concern a topic, of entries stored before a time that may still be served at another.
SELECT prompt
FROM cache_entries
WHERE stored_at < $1 AND keep_until > $2 AND ($3::text IS NULL OR tenant = $3) AND prompt ~* ANY ($4::text[])
LIMIT $5

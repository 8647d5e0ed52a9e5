-- by_category: Entries that may be served, their hits and what these saved, by freshness category.
SELECT category, count(*) AS entries, coalesce(sum(hits), 0)::bigint AS hits,
       coalesce(sum(saved_usd), 0)::float8 AS saved_usd
FROM cache_entries
LEFT JOIN cache_uses USING (entry_id)
WHERE keep_until > $1
GROUP BY category
ORDER BY entries DESC

-- by_tenant: The tenants with the most entries.
SELECT tenant, count(*) AS entries
FROM cache_entries
GROUP BY tenant
ORDER BY entries DESC
LIMIT 20

-- bytes: Size of the entries with their indexes.
SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint
FROM pg_inherits
WHERE inhparent = 'cache_entries'::regclass

-- count: About how many entries there are, as the statistics have it.
SELECT greatest(0, coalesce(sum(reltuples), 0))::bigint
FROM pg_class
JOIN pg_inherits ON inhrelid = pg_class.oid
WHERE inhparent = 'cache_entries'::regclass

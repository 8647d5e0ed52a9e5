-- spent: US dollars by tenant for the answers that were bought and completed from one time until before another. Ids begin with the time where they are made here; those derived from a client's key come after all of them.
SELECT tenant, sum(cost_usd) AS usd
FROM responses
WHERE (id >= forebay_first_id($1::timestamptz - interval '1 day')) AND completed_at >= $1 AND completed_at < $2 AND source = tier
GROUP BY tenant

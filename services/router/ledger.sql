-- spent: US dollars and answers by tenant and the tier they were routed to, of what was bought and completed from one time until before another. Ids begin with the time where they are made here; those derived from a client's key come after all of them, in a partition that has an index for this.
SELECT tenant, coalesce(body->'route'->>'tier', tier) AS tier, sum(cost_usd) AS usd, count(*) AS answers
FROM responses
WHERE id >= forebay_first_id($1::timestamptz - interval '1 day') AND completed_at >= $1 AND completed_at < $2
  AND source = tier
GROUP BY 1, 2

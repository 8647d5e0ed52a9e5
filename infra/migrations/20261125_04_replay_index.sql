-- failed requests are listed by an index
-- depends: 20261125_03_bodies

-- migrate: apply

-- The failures to be looked after, in the order in which they are listed. In a transaction of its own: while it is
-- built nobody writes to responses, but they can be read, which they could not while columns are added.
CREATE INDEX responses_dead ON responses (completed_at, id) WHERE status = 'failed' AND dropped_at IS NULL;

-- migrate: rollback

DROP INDEX responses_dead;

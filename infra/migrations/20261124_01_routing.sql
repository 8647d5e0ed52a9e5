-- what the router reads of the responses
-- depends: 20261123_02_embedders

-- migrate: apply

-- The partitions of a day are small enough to be read whole. This one keeps all that was asked under a client's key.
CREATE INDEX responses_keyed_bought ON responses_keyed (completed_at) WHERE source = tier;

-- migrate: rollback

DROP INDEX responses_keyed_bought;

-- bodies are kept as they are written
-- depends: 20261125_01_replay 20261125_02_ratings

-- migrate: apply

-- Bodies are written once, read whole, and hardly ever looked into. Taking one apart into jsonb cost 40 % of PostgreSQL's
-- time for a response and a sixth more of its log; json checks that it is JSON and keeps the text. Looking into it works
-- the same with -> and ->>; whoever wants @> or an index says body::jsonb. This writes both tables anew.
ALTER TABLE requests ALTER COLUMN body TYPE json;
ALTER TABLE responses ALTER COLUMN body TYPE json;

-- migrate: rollback

ALTER TABLE responses ALTER COLUMN body TYPE jsonb;
ALTER TABLE requests ALTER COLUMN body TYPE jsonb;

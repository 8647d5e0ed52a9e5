-- failed requests can be run anew, or taken off the list
-- depends: 20261124_01_routing

-- migrate: apply

-- requests.replay: how often the request was run anew; while it is more than that of its result, another is on its way.
-- responses.replay: the run whose result this is.
ALTER TABLE requests ADD COLUMN replay integer NOT NULL DEFAULT 0;
ALTER TABLE responses
    ADD COLUMN replay     integer NOT NULL DEFAULT 0,
    ADD COLUMN dropped_at timestamptz;

-- migrate: rollback

ALTER TABLE responses DROP COLUMN replay, DROP COLUMN dropped_at;
ALTER TABLE requests DROP COLUMN replay;

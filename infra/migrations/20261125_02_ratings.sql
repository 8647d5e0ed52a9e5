-- how good clients found their answers
-- depends: 20261124_01_routing

-- migrate: apply

-- By tenant too: over AMQP anybody can name any request, and only what its own tenant says of it is read.
CREATE TABLE ratings (
    request_id uuid             NOT NULL,
    tenant     text             NOT NULL,
    rated_at   timestamptz      NOT NULL,
    rating_id  uuid             NOT NULL,
    quality    double precision NOT NULL CHECK (quality BETWEEN 0 AND 1),
    comment    text             NOT NULL,
    PRIMARY KEY (request_id, tenant)
);

CREATE INDEX ratings_time ON ratings (rated_at);

-- migrate: rollback

DROP TABLE ratings;

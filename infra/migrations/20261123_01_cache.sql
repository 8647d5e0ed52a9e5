-- a cache one can trust: uses, audits, invalidations, and what a refresh or a change of embedder needs
-- depends: 20261122_01_initial

-- migrate: apply

-- Scopes are made in another way now, so nobody would find the entries of the version before; filling in the new
-- columns would write each of them, and its place in the vector index, a second time for nothing.
TRUNCATE cache_entries;

-- base: digest of what the scope is made of, without the embedder. reason: of the freshness. keep_until: when the row
-- may go; it outlives expires_at where the policy lets an expired answer be served while a new one is bought.
ALTER TABLE cache_entries
    ADD COLUMN base       uuid        NOT NULL,
    ADD COLUMN embedder   text        NOT NULL,
    ADD COLUMN reason     text        NOT NULL,
    ADD COLUMN keep_until timestamptz NOT NULL;

-- The words of a prompt, for selectors: runs of letters and digits, in lower case, each once. They are not taken for a
-- pattern anywhere, so there is nothing to escape. Upper and lower case are Unicode's, whatever the locale of the
-- database; PostgreSQL before 17 has ICU for that.
DO $$
BEGIN
    CREATE COLLATION forebay_words (provider = builtin, locale = 'C.UTF-8');
EXCEPTION WHEN OTHERS THEN
    CREATE COLLATION forebay_words (provider = icu, locale = 'und');
END
$$;

-- Words are compared by their first 100 characters: an index holds no longer ones, and a prompt may have a word of a
-- megabyte. While PostgreSQL makes and analyses an index it looks for names in pg_catalog only, hence the search path.
CREATE FUNCTION forebay_words(phrase text) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path FROM CURRENT AS $$
    SELECT coalesce(array_agg(DISTINCT left(word, 100)), '{}')
    FROM regexp_split_to_table(lower(phrase COLLATE forebay_words), '[^[:alnum:]]+') AS word
    WHERE word <> ''
$$;

-- A prompt as the cache keeps it (services/cache/scope.py): NFC, without white space, as Python sees it, at its ends.
CREATE FUNCTION forebay_normalised(prompt text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT btrim(normalize(prompt, NFC),
                 E'\t\n\u000B\f\r\u001C\u001D\u001E\u001F \u0085\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006'
                 || E'\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000')
$$;

-- Whether an invalidation made at a time means an entry: all conditions of the selector (shared/events.py) are met, and
-- the entry was stored by then. A selector without a condition, or with one that this version doesn't know, means none.
-- A single expression without subqueries: PostgreSQL puts it in place of the call, drops what the selector doesn't say,
-- and finds the entries by index where there is one. So the one function is used everywhere.
CREATE FUNCTION forebay_selected(entry cache_entries, selector jsonb, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT entry.stored_at <= at
       AND jsonb_strip_nulls(selector) <> '{}'
       AND selector - '{entry_id,prompt,topic,scope,tenant,model,category,older_than_s,everything}'::text[] = '{}'
       AND (selector->>'entry_id' IS NULL OR entry.entry_id = (selector->>'entry_id')::uuid)
       AND (selector->>'scope' IS NULL OR entry.scope = (selector->>'scope')::uuid)
       AND (selector->>'tenant' IS NULL OR entry.tenant = selector->>'tenant')
       AND (selector->>'category' IS NULL OR entry.category = selector->>'category')
       AND (selector->>'model' IS NULL OR entry.model = selector->>'model' OR entry.tier = selector->>'model')
       AND (selector->>'older_than_s' IS NULL
            -- Compared as numbers: a time so many seconds ago may be before the first one there is.
            OR extract(epoch FROM at - entry.stored_at) >= (selector->>'older_than_s')::numeric)
       AND (selector->>'prompt' IS NULL OR entry.prompt = forebay_normalised(selector->>'prompt'))
       AND (selector->>'topic' IS NULL
            OR forebay_words(forebay_normalised(selector->>'topic')) <> '{}'
               AND forebay_words(entry.prompt) @> forebay_words(forebay_normalised(selector->>'topic')))
$$;

DROP INDEX cache_entries_expiry;
CREATE INDEX cache_entries_expiry ON cache_entries (keep_until);
CREATE INDEX cache_entries_entry ON cache_entries (entry_id);
CREATE INDEX cache_entries_tenant ON cache_entries (tenant, keep_until);
CREATE INDEX cache_entries_prompt ON cache_entries USING hash (prompt);
CREATE INDEX cache_entries_words ON cache_entries USING gin (forebay_words(prompt));

-- How an entry has done. Apart from the entry, so that counting a hit does not rewrite a row with an embedding. A row
-- may come before its entry and outlive it; without an entry it is deleted, an hour after counted_at at the earliest.
CREATE TABLE cache_uses (
    entry_id    uuid             PRIMARY KEY,
    hits        bigint           NOT NULL,
    good        bigint           NOT NULL,
    bad         bigint           NOT NULL,
    saved_usd   double precision NOT NULL,
    last_hit_at timestamptz,
    counted_at  timestamptz      NOT NULL
) WITH (fillfactor = 70);

-- What the learned threshold has learned from: a replica that starts reads it again.
CREATE TABLE cache_audits (
    audit_id   uuid             PRIMARY KEY,
    audited_at timestamptz      NOT NULL,
    tenant     text             NOT NULL,
    kind       text             NOT NULL,
    request_id uuid             NOT NULL,
    scope      uuid             NOT NULL,
    entry_id   uuid             NOT NULL,
    served     boolean          NOT NULL,
    same       boolean          NOT NULL,
    agreement  double precision NOT NULL,
    sampled    double precision NOT NULL,
    evidence   jsonb            NOT NULL
);
CREATE INDEX cache_audits_time ON cache_audits (audited_at);

-- What was to be forgotten in the last day: entries that were on their way then are not to come back.
CREATE TABLE cache_invalidations (
    invalidation_id uuid        PRIMARY KEY,
    invalidated_at  timestamptz NOT NULL,
    selector        jsonb       NOT NULL,
    reason          text        NOT NULL
);
CREATE INDEX cache_invalidations_time ON cache_invalidations (invalidated_at);

-- The entry, or the leader, whose answer this is: who was served a wrong one can be told.
ALTER TABLE responses ADD COLUMN answer_of uuid;
CREATE INDEX responses_answer_of ON responses (answer_of) WHERE answer_of IS NOT NULL;

-- migrate: rollback

ALTER TABLE responses DROP COLUMN answer_of;
DROP TABLE cache_invalidations;
DROP TABLE cache_audits;
DROP TABLE cache_uses;
DROP INDEX cache_entries_words;
DROP INDEX cache_entries_prompt;
DROP INDEX cache_entries_tenant;
DROP INDEX cache_entries_entry;
DROP INDEX cache_entries_expiry;
DROP FUNCTION forebay_selected(cache_entries, jsonb, timestamptz);
DROP FUNCTION forebay_normalised(text);
DROP FUNCTION forebay_words(text);
DROP COLLATION forebay_words;
TRUNCATE cache_entries;
ALTER TABLE cache_entries
    DROP COLUMN base, DROP COLUMN embedder, DROP COLUMN reason, DROP COLUMN keep_until;
CREATE INDEX cache_entries_expiry ON cache_entries (expires_at);

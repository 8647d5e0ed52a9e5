-- vectors of any length side by side, so that one embedder can follow another
-- depends: 20261123_01_cache

-- migrate: apply

-- An index needs vectors of one length, a column doesn't: one partial index for each length there is. The embedder's
-- version is part of an entry's scope, so no search ever meets vectors of another embedder, whatever their length.
-- The length is a column because the planner has statistics of columns only: with vector_dims(embedding) in its place it
-- takes the condition for a rare one, and the wrong plan for small scopes (p50 1.75 instead of 0.94 ms).
-- The table is empty here: the migration before this one has seen to it.
DROP INDEX cache_entries_nearest;
ALTER TABLE cache_entries ALTER COLUMN embedding TYPE halfvec;
ALTER TABLE cache_entries ADD COLUMN dimensions smallint GENERATED ALWAYS AS (vector_dims(embedding)) STORED;

-- Make the index for vectors of a length; one that exists is left alone. Returns whether it was made.
CREATE FUNCTION forebay_ensure_vector_index(numbers integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    name text := 'cache_entries_nearest_' || numbers;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('forebay_ensure_vector_index'));
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE INDEX %I ON cache_entries USING hnsw ((embedding::halfvec(%s)) halfvec_cosine_ops)'
                   ' WITH (m = 16, ef_construction = 64) WHERE dimensions = %s', name, numbers, numbers);
    RETURN true;
END
$$;

SELECT forebay_ensure_vector_index(384);

-- migrate: rollback

DO $$
DECLARE
    found regclass;
BEGIN
    FOR found IN SELECT indexrelid::regclass FROM pg_index
                 WHERE indrelid = 'cache_entries'::regclass AND indexrelid::regclass::text LIKE 'cache_entries_nearest_%'
    LOOP
        EXECUTE format('DROP INDEX %s', found);
    END LOOP;
END
$$;
DROP FUNCTION forebay_ensure_vector_index(integer);
DELETE FROM cache_entries WHERE dimensions <> 384;
ALTER TABLE cache_entries DROP COLUMN dimensions;
ALTER TABLE cache_entries ALTER COLUMN embedding TYPE halfvec(384);
CREATE INDEX cache_entries_nearest ON cache_entries USING hnsw (embedding halfvec_cosine_ops)
    WITH (m = 16, ef_construction = 64);

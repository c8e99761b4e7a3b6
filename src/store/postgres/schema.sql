CREATE SCHEMA IF NOT EXISTS danelaw;

-- The version of these tables, and the oldest program that may use them.
CREATE TABLE danelaw.version (schema int NOT NULL, readable_from int NOT NULL);
INSERT INTO danelaw.version VALUES (1, 1);

-- The one clock of all danelaws: seconds of the Unix clock, and not those of the transaction's start.
CREATE FUNCTION danelaw.clock() RETURNS bigint LANGUAGE sql VOLATILE AS
  'SELECT floor(extract(epoch FROM clock_timestamp()))::bigint';

-- One row for each message with a claim or an outcome. "seen" is the time of the last attempt. A claim has an owner (one
-- process), a token (one claim of that process), and an end.
CREATE TABLE danelaw.records (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key bytea NOT NULL UNIQUE CHECK (octet_length(key) = 32),
  seen bigint NOT NULL,
  owner bigint,
  token bigint,
  until bigint,
  CHECK ((owner IS NULL) = (token IS NULL) AND (owner IS NULL) = (until IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX records_seen ON danelaw.records (seen);
CREATE INDEX records_until ON danelaw.records (until) WHERE owner IS NOT NULL;

-- One row for each final outcome.
CREATE TABLE danelaw.outcomes (
  record bigint NOT NULL REFERENCES danelaw.records (id) ON DELETE CASCADE,
  pair bytea NOT NULL CHECK (octet_length(pair) = 32),
  reply text NOT NULL CHECK (octet_length(reply) <= 65536),
  PRIMARY KEY (record, pair)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX outcomes_pair ON danelaw.outcomes (pair);

-- Claims a message, and returns its outcomes. A function and not one statement: in a VOLATILE function each statement has a
-- snapshot of its own, so that the outcomes are those which the claim before has left.
CREATE FUNCTION danelaw.claim(k bytea, me bigint, mark bigint, hold bigint, expiry bigint)
RETURNS TABLE (pair bytea, reply text) LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock(); r bigint; s bigint;
BEGIN
  -- The same owner takes over a claim whose answer it has not heard, unless that claim is newer.
  INSERT INTO records AS held (key, seen, owner, token, until) VALUES (k, t, me, mark, t + hold)
    ON CONFLICT (key) DO UPDATE SET owner = me, token = mark, until = t + hold
    WHERE held.owner IS NULL OR held.until < t OR (held.owner = me AND held.token <= mark)
    RETURNING id, seen INTO r, s;
  IF r IS NULL THEN
    RAISE EXCEPTION 'claimed by another' USING ERRCODE = 'DL001';
  END IF;
  IF s < t - expiry THEN
    DELETE FROM outcomes WHERE record = r;
  END IF;
  RETURN QUERY SELECT o.pair, o.reply FROM outcomes o WHERE o.record = r;
END $$;

-- Adds outcomes to the record of a claimed message. A delivery stays a delivery. There is no record without a claim: a call
-- that comes late must not bring back the record of a message that has ended.
CREATE FUNCTION danelaw.put(k bytea, me bigint, mark bigint, hold bigint, pairs bytea[], replies text[])
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock(); r bigint;
BEGIN
  UPDATE records SET seen = t, until = t + hold WHERE key = k AND owner = me AND token = mark RETURNING id INTO r;
  IF r IS NULL THEN
    RAISE EXCEPTION 'the claim has ended' USING ERRCODE = 'DL002';
  END IF;
  INSERT INTO outcomes SELECT r, x.pair, x.reply FROM unnest(pairs, replies) AS x (pair, reply) ORDER BY x.pair
    ON CONFLICT (record, pair) DO UPDATE SET reply = excluded.reply WHERE left(outcomes.reply, 1) <> '2';
  RETURN r;
END $$;

-- Ends a claim. A record without an outcome goes with it.
CREATE FUNCTION danelaw.release(k bytea, me bigint, mark bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
BEGIN
  DELETE FROM records WHERE key = k AND owner = me AND token = mark
    AND NOT EXISTS (SELECT FROM outcomes o WHERE o.record = records.id);
  UPDATE records SET owner = NULL, token = NULL, until = NULL WHERE key = k AND owner = me AND token = mark;
END $$;

-- Deletes records that have expired, the oldest above "most" outcomes, and claims that ended by time; returns the number of
-- such claims, whose messages may have arrived without a record of it. One danelaw tidies at a time.
CREATE FUNCTION danelaw.tidy(expiry bigint, most bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock(); unknown bigint := 0; n bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(7233183901389448297) THEN
    RETURN 0;
  END IF;
  WITH ended AS (SELECT id FROM records WHERE until < t ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED),
    empty AS (DELETE FROM records WHERE id IN (SELECT id FROM ended)
      AND NOT EXISTS (SELECT FROM outcomes o WHERE o.record = records.id) RETURNING id),
    left_over AS (UPDATE records SET owner = NULL, token = NULL, until = NULL
      WHERE id IN (SELECT id FROM ended) AND EXISTS (SELECT FROM outcomes o WHERE o.record = records.id) RETURNING id)
    SELECT (SELECT count(*) FROM empty) + (SELECT count(*) FROM left_over) INTO unknown;
  DELETE FROM records WHERE id IN (SELECT id FROM records WHERE seen < t - expiry AND owner IS NULL
    ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED);
  SELECT count(*) - most INTO n FROM outcomes;
  IF n > 0 THEN
    DELETE FROM records WHERE owner IS NULL AND id IN (
      SELECT id FROM (
        SELECT r.id, r.owner, sum((SELECT count(*) FROM outcomes o WHERE o.record = r.id)) OVER (ORDER BY r.seen, r.id) AS freed,
          (SELECT count(*) FROM outcomes o WHERE o.record = r.id) AS own
        FROM (SELECT id, seen, owner FROM records WHERE owner IS NULL ORDER BY seen, id LIMIT 1000) AS r) AS oldest
      WHERE freed - own < n);
  END IF;
  RETURN unknown;
END $$;

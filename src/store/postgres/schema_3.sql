-- Version 3: policies of MTA-STS have dates by the clock of the database, and one that is gone is told to all. One domain's counts
-- leave room for those of others. Rows are locked in one order. A danelaw of version 1 or 2 uses these tables too.
UPDATE danelaw.version SET schema = 3;

-- One row for each domain whose policy was deleted: those that were fetched until then are gone. A policy that was fetched later
-- is in sts_policies.
CREATE TABLE danelaw.sts_gone (
  domain text PRIMARY KEY CHECK (octet_length(domain) <= 256),
  fetched bigint NOT NULL,
  changed bigint NOT NULL
);
CREATE INDEX sts_gone_changed ON danelaw.sts_gone (changed);
CREATE INDEX sts_policies_fetched ON danelaw.sts_policies (fetched);

-- Writes a policy, and returns the one that the domain has then. Each time is given as an age in seconds, so that the clock of
-- the danelaw does not count. Without a date the policy was just fetched. One with its date in this table was there before, and
-- is not brought back once it is deleted. The policy that was fetched later stays.
CREATE FUNCTION danelaw.sts_put(d text, i text, b bytea, dated bigint, age bigint, idle bigint, failing bigint)
RETURNS SETOF danelaw.sts_policies LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock();
BEGIN
  INSERT INTO sts_policies AS kept (domain, id, body, fetched, used, failing_since, changed)
    SELECT d, i, b, coalesce(dated, t - greatest(age, 0)), t - greatest(idle, 0), t - failing, t
    WHERE dated IS NULL OR NOT EXISTS (SELECT FROM sts_gone g WHERE g.domain = d AND g.fetched >= dated)
    ON CONFLICT (domain) DO UPDATE SET id = excluded.id, body = excluded.body, fetched = excluded.fetched,
      used = greatest(kept.used, excluded.used), failing_since = excluded.failing_since, changed = excluded.changed
    WHERE kept.fetched < excluded.fetched
      -- Of two fetches in one second the one that is written later counts.
      OR (kept.fetched = excluded.fetched AND (dated IS NULL OR (kept.id = excluded.id AND kept.body = excluded.body)))
      -- A date that has not come yet is that of a clock which was ahead.
      OR (dated IS NULL AND kept.fetched > t);
  -- A policy that was fetched later than the deleted one, or in the same second, is not gone.
  DELETE FROM sts_gone g USING sts_policies p
    WHERE dated IS NULL AND g.domain = d AND p.domain = d AND p.fetched >= g.fetched;
  RETURN QUERY SELECT * FROM sts_policies WHERE domain = d;
END $$;

-- Deletes the policy that a domain has withdrawn unless it was fetched later than this, and tells it to all.
CREATE FUNCTION danelaw.sts_delete(d text, dated bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock();
BEGIN
  DELETE FROM sts_policies WHERE domain = d AND fetched <= dated;
  IF FOUND THEN
    INSERT INTO sts_gone AS gone (domain, fetched, changed) VALUES (d, dated, t)
      ON CONFLICT (domain) DO UPDATE SET fetched = greatest(gone.fetched, excluded.fetched), changed = excluded.changed;
  END IF;
END $$;

-- As in version 2, and for policies of MTA-STS that hold no more.
CREATE OR REPLACE FUNCTION danelaw.tidy(me bigint, mark bigint, expiry bigint, most bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
DECLARE t bigint := clock();
BEGIN
  PERFORM need_lease('tidy', me, mark);
  -- A policy holds for a year at most, and stays for 30 days. No danelaw deletes it because it has no room for it, or no use.
  DELETE FROM sts_policies WHERE domain IN (
    SELECT p.domain FROM sts_policies p WHERE p.fetched < t - 34149600 ORDER BY p.domain LIMIT 1000 FOR UPDATE SKIP LOCKED);
  -- Each danelaw asks once a minute; one that starts reads the policies themselves.
  DELETE FROM sts_gone WHERE domain IN (
    SELECT g.domain FROM sts_gone g WHERE g.changed < t - 604800 ORDER BY g.domain LIMIT 1000 FOR UPDATE SKIP LOCKED);
  RETURN tidy(expiry, most);
END $$;

-- One row for each registered domain with counts on a day: about how many octets they take.
CREATE TABLE danelaw.tls_owners (
  day bigint NOT NULL,
  owner text NOT NULL CHECK (octet_length(owner) <= 256),
  octets bigint NOT NULL,
  PRIMARY KEY (day, owner)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- The same as the function of version 2, with the registered domain of each domain. One registered domain takes a 32nd of a
-- day's room at most, so that no stranger's texts push out the counts of others.
CREATE FUNCTION danelaw.tls_add(
  me bigint, mark bigint, most bigint, days bigint[], domains text[], owners text[], counteds text[], counts bigint[])
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock(); d bigint; target bigint; held bigint; grown bigint; lost bigint := 0; n bigint;
BEGIN
  INSERT INTO tls_writers AS w (owner, number, seen) VALUES (me, mark, t)
    ON CONFLICT (owner) DO UPDATE SET number = mark, seen = t WHERE w.number < mark;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  FOR d IN SELECT DISTINCT x FROM unnest(days) AS x ORDER BY x LOOP
    target := d;
    LOOP
      INSERT INTO tls_days (day) VALUES (target) ON CONFLICT DO NOTHING;
      SELECT octets INTO held FROM tls_days WHERE day = target AND NOT is_closed FOR UPDATE;
      EXIT WHEN FOUND;
      target := target + 1;
    END LOOP;
    -- The row of the day is locked, so nothing else adds to it meanwhile.
    WITH given AS (
      SELECT sha256(convert_to(x.domain || E'\n' || x.counted, 'UTF8')) AS key, x.domain, min(x.owner) AS owner, x.counted,
        sum(x.count)::bigint AS count, octet_length(x.domain) + octet_length(x.counted) + 64 AS octets
      FROM unnest(days, domains, owners, counteds, counts) AS x (day, domain, owner, counted, count) WHERE x.day = d
      GROUP BY x.domain, x.counted),
    known AS (
      SELECT given.* FROM given WHERE EXISTS (SELECT FROM tls_tallies o WHERE o.day = target AND o.key = given.key)),
    fresh AS (
      SELECT given.*, coalesce(o.octets, 0) + sum(given.octets) OVER (
        PARTITION BY given.owner ORDER BY given.octets, given.key) AS together
      FROM given LEFT JOIN tls_owners o ON o.day = target AND o.owner = given.owner
      WHERE held < most AND NOT EXISTS (SELECT FROM known WHERE known.key = given.key)),
    added AS (
      SELECT * FROM fresh WHERE together <= most / 32),
    written AS (
      INSERT INTO tls_tallies AS o (day, key, domain, counted, count)
        SELECT target, x.key, x.domain, x.counted, x.count
        FROM (SELECT key, domain, counted, count FROM known UNION ALL SELECT key, domain, counted, count FROM added) AS x
        ORDER BY x.key
        ON CONFLICT (day, key) DO UPDATE SET count = o.count + excluded.count),
    summed AS (
      INSERT INTO tls_owners AS o (day, owner, octets)
        SELECT target, added.owner, sum(added.octets) FROM added GROUP BY added.owner ORDER BY added.owner
        ON CONFLICT (day, owner) DO UPDATE SET octets = o.octets + excluded.octets)
    SELECT (SELECT coalesce(sum(added.octets), 0) FROM added),
      (SELECT coalesce(sum(given.count), 0) FROM given) - (SELECT coalesce(sum(known.count), 0) FROM known)
        - (SELECT coalesce(sum(added.count), 0) FROM added) INTO grown, n;
    UPDATE tls_days SET octets = octets + grown WHERE day = target;
    lost := lost + n;
  END LOOP;
  RETURN lost;
END $$;

-- As in version 2, with the rows locked in their order: two danelaws that write the same ones do not wait for each other.
CREATE OR REPLACE FUNCTION danelaw.tls_tell(
  me bigint, days bigint[], domains text[], addresses text[], states text[], firsts bigint[], triess bigint[], nexts bigint[],
  organizations text[], contacts text[], tokens bigint[], keeps boolean[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
DECLARE t bigint := clock();
BEGIN
  -- In one statement: between two of them there may be new rows.
  WITH told AS MATERIALIZED (
    SELECT x.* FROM tls_reports o
      JOIN unnest(days, domains, addresses, states, firsts, triess, nexts, organizations, contacts, tokens, keeps)
        AS x (day, domain, address, state, first, tries, next, organization, contact, token, is_kept)
      ON o.day = x.day AND o.domain = x.domain AND o.address = x.address
      WHERE o.owner = me AND o.token = x.token
      ORDER BY o.day, o.domain, o.address FOR UPDATE OF o)
  UPDATE tls_reports r SET state = x.state, first = x.first, tries = x.tries, next = x.next, organization = x.organization,
      contact = x.contact, until = CASE WHEN x.is_kept THEN r.until ELSE 0 END, changed = t
    FROM told AS x
    WHERE r.day = x.day AND r.domain = x.domain AND r.address = x.address AND r.owner = me AND r.token = x.token;
END $$;

-- Goes on with the right to send a report, and returns whether it is still there.
CREATE FUNCTION danelaw.tls_hold(me bigint, hold bigint, at bigint, of text, to_address text, mark bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
BEGIN
  UPDATE tls_reports r SET until = clock() + hold
    WHERE r.day = at AND r.domain = of AND r.address = to_address AND r.state = '' AND r.owner = me AND r.token = mark;
  RETURN FOUND;
END $$;

-- As in version 2; rows that another danelaw is writing at this moment are left for the next time.
CREATE OR REPLACE FUNCTION danelaw.tls_forget(me bigint, mark bigint, before bigint, known bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
DECLARE
  t bigint := clock();
  -- The clock of the danelaw that asks may be wrong: the counts of yesterday and the day before stay (2440588 is 1970-01-01).
  kept bigint := least(before, t / 86400 + 2440588 - 2);
BEGIN
  PERFORM need_lease('tlsrpt', me, mark);
  -- Before any other lock: a danelaw that adds counts locks its own row first.
  DELETE FROM tls_writers WHERE owner IN (
    SELECT o.owner FROM tls_writers o WHERE o.seen < t - 172800 ORDER BY o.owner FOR UPDATE SKIP LOCKED);
  -- A day without a row takes counts.
  WITH open AS MATERIALIZED (
    SELECT o.day FROM tls_days o WHERE o.day < kept AND NOT o.is_closed ORDER BY o.day FOR UPDATE)
  UPDATE tls_days SET is_closed = true FROM open WHERE tls_days.day = open.day;
  DELETE FROM tls_tallies WHERE (day, key) IN (
    SELECT o.day, o.key FROM tls_tallies o WHERE o.day < kept ORDER BY o.day, o.key LIMIT 5000 FOR UPDATE SKIP LOCKED);
  DELETE FROM tls_owners WHERE (day, owner) IN (
    SELECT o.day, o.owner FROM tls_owners o WHERE o.day < kept ORDER BY o.day, o.owner LIMIT 5000 FOR UPDATE SKIP LOCKED);
  DELETE FROM tls_reports WHERE (day, domain, address) IN (
    SELECT o.day, o.domain, o.address FROM tls_reports o WHERE o.day < kept
    ORDER BY o.day, o.domain, o.address LIMIT 5000 FOR UPDATE SKIP LOCKED);
  DELETE FROM tls_days WHERE day IN (
    SELECT o.day FROM tls_days o WHERE o.day < least(known, kept) ORDER BY o.day FOR UPDATE SKIP LOCKED);
  -- An address keeps its level long enough for the next refusal to be one in a row.
  DELETE FROM tls_suppressed WHERE address IN (
    SELECT o.address FROM tls_suppressed o
    WHERE o.until < t - 2592000 OR o.address IN (SELECT s.address FROM tls_suppressed s ORDER BY s.until DESC OFFSET 10000)
    ORDER BY o.address FOR UPDATE SKIP LOCKED);
END $$;

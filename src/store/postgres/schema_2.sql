-- Version 2: leases, the counts and states of TLS reports, and the policies of MTA-STS. A danelaw of version 1 uses these tables
-- too, and knows nothing of what is new.
UPDATE danelaw.version SET schema = 2;

-- One row for each task that one danelaw of all does. The token counts up with each new term, so that a holder which was
-- paused finds its own token old.
CREATE TABLE danelaw.leases (
  task text PRIMARY KEY CHECK (octet_length(task) <= 32),
  owner bigint NOT NULL,
  until bigint NOT NULL,
  token bigint NOT NULL
);

-- Takes or renews a lease, and returns its token; NULL while another danelaw has it.
CREATE FUNCTION danelaw.lease(what text, me bigint, term bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock(); mark bigint;
BEGIN
  INSERT INTO leases AS held (task, owner, until, token) VALUES (what, me, t + term, 1)
    ON CONFLICT (task) DO UPDATE SET owner = me, until = t + term,
      token = CASE WHEN held.owner = me AND held.until >= t THEN held.token ELSE held.token + 1 END
    WHERE held.owner = me OR held.until < t
    RETURNING token INTO mark;
  RETURN mark;
END $$;

-- Fails unless the lease is held. Another danelaw cannot take it before the end of this transaction.
CREATE FUNCTION danelaw.need_lease(what text, me bigint, mark bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
BEGIN
  PERFORM 1 FROM leases WHERE leases.task = what AND leases.owner = me AND leases.token = mark AND leases.until >= clock()
    FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the lease has ended' USING ERRCODE = 'DL003';
  END IF;
END $$;

-- The same as the function of version 1, for the holder of the lease "tidy".
CREATE FUNCTION danelaw.tidy(me bigint, mark bigint, expiry bigint, most bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
BEGIN
  PERFORM need_lease('tidy', me, mark);
  RETURN tidy(expiry, most);
END $$;

-- One row for each UTC day with a count, by its Julian day. Nothing is added to a day that is closed: its reports have begun.
CREATE TABLE danelaw.tls_days (
  day bigint PRIMARY KEY,
  is_closed boolean NOT NULL DEFAULT false,
  octets bigint NOT NULL DEFAULT 0
);

-- One row for each result of a domain on a day: its policy and its success or failure, as JSON.
CREATE TABLE danelaw.tls_tallies (
  day bigint NOT NULL,
  key bytea NOT NULL CHECK (octet_length(key) = 32),
  domain text NOT NULL CHECK (octet_length(domain) <= 256),
  counted text NOT NULL CHECK (octet_length(counted) <= 1048576),
  count bigint NOT NULL,
  PRIMARY KEY (day, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- The last write of each danelaw, so that one whose answer was lost adds nothing when it comes again.
CREATE TABLE danelaw.tls_writers (owner bigint PRIMARY KEY, number bigint NOT NULL, seen bigint NOT NULL);

-- Adds counts, and returns the sum of those for which the day has no room. Those of a day that is closed go to the next one.
-- The days are locked in their order.
CREATE FUNCTION danelaw.tls_add(
  me bigint, mark bigint, most bigint, days bigint[], domains text[], counteds text[], counts bigint[])
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
    WITH given AS (
      SELECT sha256(convert_to(x.domain || E'\n' || x.counted, 'UTF8')) AS key, x.domain, x.counted, sum(x.count)::bigint AS count
      FROM unnest(days, domains, counteds, counts) AS x (day, domain, counted, count) WHERE x.day = d
      GROUP BY x.domain, x.counted),
    kept AS (
      SELECT * FROM given
      WHERE held < most OR EXISTS (SELECT FROM tls_tallies o WHERE o.day = target AND o.key = given.key)),
    written AS (
      INSERT INTO tls_tallies AS o (day, key, domain, counted, count)
        SELECT target, kept.key, kept.domain, kept.counted, kept.count FROM kept ORDER BY kept.key
        ON CONFLICT (day, key) DO UPDATE SET count = o.count + excluded.count
        RETURNING CASE WHEN o.xmax = 0 THEN octet_length(o.domain) + octet_length(o.counted) + 64 ELSE 0 END AS octets)
    SELECT (SELECT coalesce(sum(written.octets), 0) FROM written),
      (SELECT coalesce(sum(given.count), 0) FROM given) - (SELECT coalesce(sum(kept.count), 0) FROM kept) INTO grown, n;
    UPDATE tls_days SET octets = octets + grown WHERE day = target;
    lost := lost + n;
  END LOOP;
  RETURN lost;
END $$;

-- Closes a day, for the holder of the lease "tlsrpt": its counts stay as they are from now on.
CREATE FUNCTION danelaw.tls_close(me bigint, mark bigint, closing bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
BEGIN
  PERFORM need_lease('tlsrpt', me, mark);
  -- The clock of the danelaw that asks may be wrong: no later day than today is closed (2440588 is 1970-01-01).
  UPDATE tls_days SET is_closed = true
    WHERE tls_days.day = least(closing, clock() / 86400 + 2440588) AND tls_days.day = closing AND NOT tls_days.is_closed;
END $$;

-- One row for each report, and one with an empty address for the lookup that its addresses come from. "content" is what the
-- report says; "target" is the registered domain that takes it. A report that is being sent has an owner, a token and an
-- end of that, after which any danelaw may send it.
CREATE TABLE danelaw.tls_reports (
  day bigint NOT NULL,
  domain text NOT NULL CHECK (octet_length(domain) <= 256),
  address text NOT NULL CHECK (octet_length(address) <= 1024),
  state text NOT NULL,
  first bigint NOT NULL,
  tries bigint NOT NULL,
  next bigint NOT NULL,
  organization text NOT NULL,
  contact text NOT NULL,
  target text NOT NULL,
  content text NOT NULL,
  owner bigint NOT NULL DEFAULT 0,
  token bigint NOT NULL DEFAULT 0,
  until bigint NOT NULL DEFAULT 0,
  changed bigint NOT NULL,
  PRIMARY KEY (day, domain, address)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX tls_reports_open ON danelaw.tls_reports (next) WHERE state = '' AND address <> '';
CREATE INDEX tls_reports_changed ON danelaw.tls_reports (changed);

-- Addresses that have refused a report.
CREATE TABLE danelaw.tls_suppressed (
  address text PRIMARY KEY CHECK (octet_length(address) <= 1024),
  until bigint NOT NULL,
  level bigint NOT NULL
);

-- One row: an id by which reports from this database differ from those of another one of the same organisation.
CREATE TABLE danelaw.tls_reporter (one int PRIMARY KEY CHECK (one = 1), id text NOT NULL);
INSERT INTO danelaw.tls_reporter VALUES (1, replace(gen_random_uuid()::text, '-', ''));

-- Writes reports, for the holder of the lease "tlsrpt". A report that is there already stays as it is, unless it ends
-- without a try; the state of a lookup is replaced.
CREATE FUNCTION danelaw.tls_make(
  me bigint, mark bigint, days bigint[], domains text[], addresses text[], states text[], firsts bigint[], triess bigint[],
  nexts bigint[], targets text[], contents text[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock();
BEGIN
  PERFORM need_lease('tlsrpt', me, mark);
  INSERT INTO tls_reports AS o (day, domain, address, state, first, tries, next, organization, contact, target, content, changed)
    SELECT x.day, x.domain, x.address, x.state, x.first, x.tries, x.next, '', '', x.target, x.content, t
    FROM unnest(days, domains, addresses, states, firsts, triess, nexts, targets, contents)
      AS x (day, domain, address, state, first, tries, next, target, content)
    ORDER BY x.day, x.domain, x.address
    ON CONFLICT (day, domain, address) DO UPDATE SET state = excluded.state, first = excluded.first, tries = excluded.tries,
      next = excluded.next, changed = t
    WHERE o.address = '' OR (excluded.state <> '' AND o.state = '' AND o.until < t);
END $$;

-- Takes reports that are due for a while, at most so many, and to one target at most so many by all danelaws together.
-- Reports that another danelaw is taking at this moment are left out.
CREATE FUNCTION danelaw.tls_take(me bigint, hold bigint, at bigint, most bigint, together bigint)
RETURNS SETOF danelaw.tls_reports LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE t bigint := clock();
BEGIN
  RETURN QUERY
  WITH busy AS (
    SELECT r.target, count(*) AS n FROM tls_reports r WHERE r.state = '' AND r.address <> '' AND r.until >= t GROUP BY r.target),
  due AS MATERIALIZED (
    SELECT r.day, r.domain, r.address, coalesce(busy.n, 0) + row_number() OVER (
      PARTITION BY r.target ORDER BY r.next, r.day, r.domain, r.address) AS place
    FROM tls_reports r LEFT JOIN busy ON busy.target = r.target
    WHERE r.state = '' AND r.address <> '' AND r.next <= at AND r.until < t),
  free AS (
    SELECT r.day, r.domain, r.address FROM tls_reports r
    WHERE (r.day, r.domain, r.address) IN (SELECT due.day, due.domain, due.address FROM due WHERE due.place <= together)
      AND r.state = '' AND r.address <> '' AND r.until < t
    ORDER BY r.next LIMIT most FOR UPDATE SKIP LOCKED)
  UPDATE tls_reports r SET owner = me, token = r.token + 1, until = t + hold, changed = t
    FROM free WHERE r.day = free.day AND r.domain = free.domain AND r.address = free.address
    RETURNING r.*;
END $$;

-- Writes the states of reports that this danelaw has taken, and ends its right to them or leaves it. A report that
-- another one has taken since stays as it is.
CREATE FUNCTION danelaw.tls_tell(
  me bigint, days bigint[], domains text[], addresses text[], states text[], firsts bigint[], triess bigint[], nexts bigint[],
  organizations text[], contacts text[], tokens bigint[], keeps boolean[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
DECLARE t bigint := clock();
BEGIN
  UPDATE tls_reports r SET state = x.state, first = x.first, tries = x.tries, next = x.next, organization = x.organization,
      contact = x.contact, until = CASE WHEN x.is_kept THEN r.until ELSE 0 END, changed = t
    FROM unnest(days, domains, addresses, states, firsts, triess, nexts, organizations, contacts, tokens, keeps)
      AS x (day, domain, address, state, first, tries, next, organization, contact, token, is_kept)
    WHERE r.day = x.day AND r.domain = x.domain AND r.address = x.address AND r.owner = me AND r.token = x.token;
END $$;

-- Deletes TLS reports about days before the first of these Julian days, their counts, and closed days before the second one.
CREATE FUNCTION danelaw.tls_forget(me bigint, mark bigint, before bigint, known bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
DECLARE
  t bigint := clock();
  -- The clock of the danelaw that asks may be wrong: the counts of yesterday and the day before stay (2440588 is 1970-01-01).
  kept bigint := least(before, t / 86400 + 2440588 - 2);
BEGIN
  PERFORM need_lease('tlsrpt', me, mark);
  -- A day without a row takes counts.
  UPDATE tls_days SET is_closed = true WHERE day < kept AND NOT is_closed;
  DELETE FROM tls_tallies WHERE (day, key) IN (SELECT o.day, o.key FROM tls_tallies o WHERE o.day < kept LIMIT 5000);
  DELETE FROM tls_reports WHERE (day, domain, address) IN
    (SELECT o.day, o.domain, o.address FROM tls_reports o WHERE o.day < kept LIMIT 5000);
  DELETE FROM tls_days WHERE day < least(known, kept);
  DELETE FROM tls_writers WHERE seen < t - 172800;
  -- An address keeps its level long enough for the next refusal to be one in a row.
  DELETE FROM tls_suppressed WHERE until < t - 2592000
    OR address IN (SELECT o.address FROM tls_suppressed o ORDER BY o.until DESC OFFSET 10000);
END $$;

-- One row for each domain's policy of MTA-STS, with its text as it was fetched. The times are in seconds of the Unix clock.
CREATE TABLE danelaw.sts_policies (
  domain text PRIMARY KEY CHECK (octet_length(domain) <= 256),
  id text NOT NULL,
  body bytea NOT NULL CHECK (octet_length(body) <= 1048576),
  fetched bigint NOT NULL,
  used bigint NOT NULL,
  failing_since bigint,
  changed bigint NOT NULL
);
CREATE INDEX sts_policies_changed ON danelaw.sts_policies (changed);

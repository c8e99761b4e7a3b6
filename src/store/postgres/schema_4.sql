-- Version 4: mails by month, and the memory of the watch. A danelaw of the versions before uses these tables too, and knows nothing
-- of what is new.
UPDATE danelaw.version SET schema = 4;

-- The last write of each danelaw to each of the sums below, so that one whose answer was lost adds nothing when it comes again.
CREATE TABLE danelaw.sum_writers (
  owner bigint NOT NULL,
  sum text NOT NULL CHECK (octet_length(sum) <= 32),
  number bigint NOT NULL,
  seen bigint NOT NULL,
  PRIMARY KEY (owner, sum)
);

-- Whether a write comes for the first time.
CREATE FUNCTION danelaw.is_first_write(me bigint, what text, mark bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
DECLARE t bigint := clock();
BEGIN
  INSERT INTO sum_writers AS w (owner, sum, number, seen) VALUES (me, what, mark, t)
    ON CONFLICT (owner, sum) DO UPDATE SET number = mark, seen = t WHERE w.number < mark;
  RETURN FOUND;
END $$;

-- One row for each domain and result of a month: twelve times the year, and the months before it in the year. "last_day" is a
-- Julian day. The domain '' stands for all that the month had no room for.
CREATE TABLE danelaw.mail_months (
  month bigint NOT NULL,
  domain text NOT NULL CHECK (octet_length(domain) <= 256),
  result text NOT NULL CHECK (octet_length(result) <= 64),
  mails bigint NOT NULL,
  last_day bigint NOT NULL,
  PRIMARY KEY (month, domain, result)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- The number of domains of each month.
CREATE TABLE danelaw.mail_domains (month bigint PRIMARY KEY, domains bigint NOT NULL DEFAULT 0);

-- Adds mails. The months are locked in their order, and while a month is locked nothing else adds to it.
CREATE FUNCTION danelaw.mail_add(
  me bigint, mark bigint, most bigint, months bigint[], domains text[], results text[], counts bigint[], days bigint[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
DECLARE m bigint; room bigint;
BEGIN
  IF NOT is_first_write(me, 'mails', mark) THEN
    RETURN;
  END IF;
  FOR m IN SELECT DISTINCT x FROM unnest(months) AS x ORDER BY x LOOP
    INSERT INTO mail_domains (month) VALUES (m) ON CONFLICT DO NOTHING;
    SELECT most - o.domains INTO room FROM mail_domains o WHERE o.month = m FOR UPDATE;
    WITH given AS (
      SELECT x.domain, x.result, sum(x.mails) AS mails, max(x.day) AS last_day
      FROM unnest(months, domains, results, counts, days) AS x (month, domain, result, mails, day) WHERE x.month = m
      GROUP BY x.domain, x.result),
    fresh AS (
      SELECT x.domain, row_number() OVER (ORDER BY x.domain) AS place
      FROM (SELECT DISTINCT given.domain FROM given WHERE given.domain <> '') AS x
      WHERE NOT EXISTS (SELECT FROM mail_months o WHERE o.month = m AND o.domain = x.domain)),
    placed AS (
      SELECT CASE WHEN fresh.place > room THEN '' ELSE given.domain END AS domain, given.result, given.mails, given.last_day
      FROM given LEFT JOIN fresh ON fresh.domain = given.domain),
    written AS (
      INSERT INTO mail_months AS o (month, domain, result, mails, last_day)
        SELECT m, placed.domain, placed.result, sum(placed.mails)::bigint, max(placed.last_day)
        FROM placed GROUP BY placed.domain, placed.result ORDER BY placed.domain, placed.result
        ON CONFLICT (month, domain, result) DO UPDATE SET mails = o.mails + excluded.mails,
          last_day = greatest(o.last_day, excluded.last_day))
    UPDATE mail_domains o SET domains = o.domains + (SELECT count(*) FROM fresh WHERE fresh.place <= room) WHERE o.month = m;
  END LOOP;
END $$;

-- Deletes months before this one, at most so many rows, and returns their number. The clock of the danelaw that asks may be
-- wrong: this month stays. Rows that another danelaw is writing are left for the next time.
CREATE FUNCTION danelaw.mail_forget(before bigint, most bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
DECLARE
  today timestamp := to_timestamp(clock()) AT TIME ZONE 'UTC';
  kept bigint := least(before, (extract(year FROM today) * 12 + extract(month FROM today) - 1)::bigint);
  n bigint;
BEGIN
  DELETE FROM mail_months WHERE (month, domain, result) IN (
    SELECT o.month, o.domain, o.result FROM mail_months o WHERE o.month < kept
    ORDER BY o.month, o.domain, o.result LIMIT most FOR UPDATE SKIP LOCKED);
  GET DIAGNOSTICS n = ROW_COUNT;
  DELETE FROM mail_domains WHERE month IN (
    SELECT d.month FROM mail_domains d WHERE d.month < kept AND NOT EXISTS (SELECT FROM mail_months o WHERE o.month = d.month)
    ORDER BY d.month FOR UPDATE SKIP LOCKED);
  RETURN n;
END $$;

-- One row for each domain or host that is watched. "entry" is JSON, "seen" is in seconds of the Unix clock.
CREATE TABLE danelaw.watch_entries (
  kind text NOT NULL CHECK (octet_length(kind) <= 32),
  name text NOT NULL CHECK (octet_length(name) <= 256),
  entry text NOT NULL CHECK (octet_length(entry) <= 1048576),
  seen bigint NOT NULL,
  PRIMARY KEY (kind, name)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Writes entries in the place of those before, for the holder of the lease "watch". The last one of a name counts.
CREATE FUNCTION danelaw.watch_put(me bigint, mark bigint, kinds text[], names text[], entries text[], seens bigint[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM need_lease('watch', me, mark);
  INSERT INTO watch_entries (kind, name, entry, seen)
    SELECT DISTINCT ON (x.kind, x.name) x.kind, x.name, x.entry, x.seen
    FROM unnest(kinds, names, entries, seens) WITH ORDINALITY AS x (kind, name, entry, seen, place)
    ORDER BY x.kind, x.name, x.place DESC
    ON CONFLICT (kind, name) DO UPDATE SET entry = excluded.entry, seen = excluded.seen;
END $$;

-- Sessions with a port of a host on a day (a Julian one) that had one result, until the holder of the lease "watch" takes them.
-- "note" is JSON about the last one, "last" its time in seconds of the Unix clock.
CREATE TABLE danelaw.host_sessions (
  host text NOT NULL CHECK (octet_length(host) <= 256),
  port int NOT NULL,
  day bigint NOT NULL,
  word text NOT NULL CHECK (octet_length(word) <= 64),
  sessions bigint NOT NULL,
  last bigint NOT NULL,
  note text NOT NULL CHECK (octet_length(note) <= 65536),
  PRIMARY KEY (host, port, day, word)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Adds sessions. The rows are locked in their order.
CREATE FUNCTION danelaw.host_add(
  me bigint, mark bigint, hosts text[], ports int[], days bigint[], words text[], counts bigint[], lasts bigint[], notes text[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF NOT is_first_write(me, 'sessions', mark) THEN
    RETURN;
  END IF;
  INSERT INTO host_sessions AS o (host, port, day, word, sessions, last, note)
    SELECT x.host, x.port, x.day, x.word, sum(x.sessions)::bigint, max(x.last), (array_agg(x.note ORDER BY x.last DESC, x.place DESC))[1]
    FROM unnest(hosts, ports, days, words, counts, lasts, notes) WITH ORDINALITY
      AS x (host, port, day, word, sessions, last, note, place)
    GROUP BY x.host, x.port, x.day, x.word ORDER BY x.host, x.port, x.day, x.word
    ON CONFLICT (host, port, day, word) DO UPDATE SET sessions = o.sessions + excluded.sessions,
      last = greatest(o.last, excluded.last), note = CASE WHEN excluded.last >= o.last THEN excluded.note ELSE o.note END;
END $$;

-- Deletes sessions and returns them, for the holder of the lease "watch". Rows that a danelaw is adding to are left for the next
-- time.
CREATE FUNCTION danelaw.host_take(me bigint, mark bigint)
RETURNS SETOF danelaw.host_sessions LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM need_lease('watch', me, mark);
  RETURN QUERY
  WITH free AS MATERIALIZED (
    SELECT o.host, o.port, o.day, o.word FROM host_sessions o ORDER BY o.host, o.port, o.day, o.word FOR UPDATE SKIP LOCKED)
  DELETE FROM host_sessions o USING free
    WHERE o.host = free.host AND o.port = free.port AND o.day = free.day AND o.word = free.word RETURNING o.*;
END $$;

-- As in version 3, and for sessions that no danelaw takes, and for the last writes of danelaws that have ended.
CREATE OR REPLACE FUNCTION danelaw.tidy(me bigint, mark bigint, expiry bigint, most bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = danelaw, pg_temp AS $$
DECLARE t bigint := clock();
BEGIN
  PERFORM need_lease('tidy', me, mark);
  -- Before any other lock: a danelaw that adds locks its own row first.
  DELETE FROM sum_writers WHERE (owner, sum) IN (
    SELECT o.owner, o.sum FROM sum_writers o WHERE o.seen < t - 172800 ORDER BY o.owner, o.sum FOR UPDATE SKIP LOCKED);
  DELETE FROM host_sessions WHERE (host, port, day, word) IN (
    SELECT o.host, o.port, o.day, o.word FROM host_sessions o WHERE o.last < t - 604800
    ORDER BY o.host, o.port, o.day, o.word LIMIT 1000 FOR UPDATE SKIP LOCKED);
  -- A policy holds for a year at most, and stays for 30 days. No danelaw deletes it because it has no room for it, or no use.
  DELETE FROM sts_policies WHERE domain IN (
    SELECT p.domain FROM sts_policies p WHERE p.fetched < t - 34149600 ORDER BY p.domain LIMIT 1000 FOR UPDATE SKIP LOCKED);
  -- Each danelaw asks once a minute; one that starts reads the policies themselves.
  DELETE FROM sts_gone WHERE domain IN (
    SELECT g.domain FROM sts_gone g WHERE g.changed < t - 604800 ORDER BY g.domain LIMIT 1000 FOR UPDATE SKIP LOCKED);
  RETURN tidy(expiry, most);
END $$;

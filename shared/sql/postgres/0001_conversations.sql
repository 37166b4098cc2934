-- Conversations and their messages, and what changes them: one routine for each change.
--
-- Who applies this puts in {schema} and {channel}, the channel of hints. All names are qualified, so
-- that no search path decides what is called; a procedure with a search path of its own could not
-- commit.
--
-- A routine that was released keeps its name, arguments and meaning for as long as a release that
-- calls it may run: one that has to be otherwise is added beside it, under the next number.
--
-- Each change locks its conversation's row first, and that one alone. So changes of one conversation
-- come one after the other, a message's number is given out in the order in which transactions become
-- visible, and nobody can wait for another in a circle.
--
-- A procedure that changes something commits, and only then hints: a transaction that hints holds a
-- lock of the whole server while it is committed, and all commits would wait for the disk in a line.

CREATE TABLE {schema}.conversation (
    id text COLLATE "C" PRIMARY KEY,
    newest bigint NOT NULL DEFAULT 0,            -- the number of its newest message, removed or not
    messages bigint NOT NULL DEFAULT 0,          -- how many there are
    token bigint NOT NULL DEFAULT 0,             -- the greatest fencing token seen; older ones are refused
    used_up bigint,                              -- the token that a retract or delete used up
    writer text COLLATE "C",                     -- the run that may write
    next_position bigint NOT NULL DEFAULT 0,     -- its next position
    is_deleted boolean NOT NULL DEFAULT false,   -- only the token is left
    expires_at timestamptz                       -- from then on it is as if it had never been
) WITH (fillfactor = 50);                        -- each append writes the row anew, beside the old one

CREATE INDEX conversation_expiry ON {schema}.conversation (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE {schema}.message (
    conversation_id text COLLATE "C" NOT NULL,
    number bigint NOT NULL,                      -- microseconds since 1970 or more; only grows
    run_id text COLLATE "C",
    position bigint NOT NULL,
    role text NOT NULL,
    kind text NOT NULL,
    data text NOT NULL,                          -- the message, JSON; text, since jsonb holds no \u0000
    PRIMARY KEY (conversation_id, number)
);

CREATE INDEX message_run ON {schema}.message (conversation_id, run_id, number)
    WHERE run_id IS NOT NULL;


-- Lock a conversation's row, which is made if there is none. One that has expired begins anew.
CREATE FUNCTION {schema}.open_1(name text) RETURNS {schema}.conversation
LANGUAGE plpgsql AS $body$
DECLARE
    opened {schema}.conversation;
BEGIN
    LOOP
        SELECT * INTO opened FROM {schema}.conversation WHERE id = name FOR UPDATE;
        IF FOUND AND opened.expires_at <= pg_catalog.clock_timestamp() THEN
            DELETE FROM {schema}.message WHERE conversation_id = name;
            UPDATE {schema}.conversation
            SET messages = 0, token = 0, used_up = NULL, writer = NULL, next_position = 0,
                is_deleted = false, expires_at = NULL
            WHERE id = name RETURNING * INTO opened;
        END IF;
        IF FOUND THEN
            RETURN opened;
        END IF;
        INSERT INTO {schema}.conversation (id) VALUES (name) ON CONFLICT DO NOTHING;
    END LOOP;
END
$body$;


-- Lock the row of a conversation that exists; null where there is none, or it has expired.
CREATE FUNCTION {schema}.find_1(name text) RETURNS {schema}.conversation
LANGUAGE plpgsql AS $body$
DECLARE
    found_one {schema}.conversation;
BEGIN
    SELECT * INTO found_one FROM {schema}.conversation
    WHERE id = name AND (expires_at IS NULL OR expires_at > pg_catalog.clock_timestamp())
    FOR UPDATE;
    RETURN found_one;
END
$body$;


-- The position behind the last message of a run.
CREATE FUNCTION {schema}.next_position_1(name text, run text) RETURNS bigint
LANGUAGE sql AS $body$
    SELECT coalesce(
        (
            SELECT position + 1 FROM {schema}.message
            WHERE conversation_id = name AND run_id = run ORDER BY number DESC LIMIT 1
        ),
        0
    )
$body$;


-- Remove a part of what has expired: at most three conversations and a thousand messages of each, so
-- that nobody waits long for it. What others are at is left alone.
CREATE PROCEDURE {schema}.purge_1()
LANGUAGE plpgsql AS $body$
DECLARE
    gone text;
BEGIN
    FOR turn IN 1..3 LOOP
        SELECT id INTO gone FROM {schema}.conversation
        WHERE expires_at <= pg_catalog.clock_timestamp()
        ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        DELETE FROM {schema}.message
        WHERE conversation_id = gone AND number IN (
            SELECT number FROM {schema}.message WHERE conversation_id = gone LIMIT 1000
        );
        EXIT WHEN EXISTS (SELECT FROM {schema}.message WHERE conversation_id = gone);
        DELETE FROM {schema}.conversation WHERE id = gone;
    END LOOP;
END
$body$;


-- Remove the oldest messages so that at most so many are left; return how many were removed. A cut
-- never comes between a call and its results, and never removes what the writing run wrote: it may
-- still have to be resumed.
CREATE FUNCTION {schema}.trim_1(name text, run text, excess bigint) RETURNS bigint
LANGUAGE plpgsql AS $body$
DECLARE
    cut bigint;
    removed bigint := 0;
BEGIN
    SELECT number INTO cut FROM (
        SELECT number, run_id, role, row_number() OVER (ORDER BY number) AS place
        FROM {schema}.message WHERE conversation_id = name
    ) AS stored
    WHERE run_id = run OR (place > excess AND role <> 'tool')
    ORDER BY number LIMIT 1;
    IF FOUND THEN
        DELETE FROM {schema}.message WHERE conversation_id = name AND number < cut;
        GET DIAGNOSTICS removed = ROW_COUNT;
    END IF;
    RETURN removed;
END
$body$;


-- Append messages in one step, each once.
--
-- run, run_token   the writer, or null
-- ttl_s            forget the conversation so long after this; null leaves that as it is
-- most             most messages to keep; null keeps all
-- runs … bodies    the messages; a writer's positions are consecutive
-- status           'fenced' | 'gap' | 'stored'
-- next             the writer's next position, before this
-- numbers          of each message; null for one that was stored before and is gone
CREATE PROCEDURE {schema}.append_1(
    name text, run text, run_token bigint, ttl_s float8, most bigint,
    runs text[], positions bigint[], roles text[], kinds text[], bodies text[],
    INOUT status text, INOUT next bigint, INOUT numbers bigint[]
)
LANGUAGE plpgsql AS $body$
DECLARE
    opened {schema}.conversation;
    known bigint := 0;
    added bigint;
    first bigint;
    trimmed bigint := 0;
BEGIN
    opened := {schema}.open_1(name);
    numbers := ARRAY[]::bigint[];
    IF run IS NOT NULL THEN
        IF run_token < opened.token OR run_token = opened.used_up THEN
            status := 'fenced';
            RETURN;
        END IF;
        IF opened.writer IS DISTINCT FROM run THEN
            opened.next_position := {schema}.next_position_1(name, run);
        END IF;
        opened.token := run_token;
        opened.writer := run;
        next := opened.next_position;
        known := least(next - positions[1], cardinality(positions));
        IF known < 0 THEN
            status := 'gap';
            RETURN;
        END IF;
        -- A repeated write whose answer was lost is answered with the numbers of then.
        numbers := ARRAY(
            SELECT (
                SELECT max(number) FROM {schema}.message
                WHERE conversation_id = name AND run_id = run AND position = asked.position
            )
            FROM unnest(positions) WITH ORDINALITY AS asked (position, place)
            WHERE place <= known ORDER BY place
        );
    END IF;
    added := cardinality(positions) - known;
    first := greatest(
        opened.newest + 1, (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint
    );
    INSERT INTO {schema}.message (conversation_id, number, run_id, position, role, kind, data)
    SELECT name, first + given.place - known - 1, given.run, given.position, given.role, given.kind,
        given.body
    FROM unnest(runs, positions, roles, kinds, bodies) WITH ORDINALITY
        AS given (run, position, role, kind, body, place)
    WHERE given.place > known;
    IF added > 0 THEN
        numbers := numbers || ARRAY(SELECT first + place FROM generate_series(0, added - 1) AS place);
        opened.newest := first + added - 1;
        IF opened.is_deleted THEN
            opened.is_deleted := false;
            opened.expires_at := NULL;
        END IF;
        IF ttl_s IS NOT NULL THEN
            opened.expires_at := pg_catalog.clock_timestamp() + make_interval(secs => ttl_s);
        END IF;
        IF opened.messages + added > most THEN
            trimmed := {schema}.trim_1(name, run, opened.messages + added - most);
        END IF;
    END IF;
    UPDATE {schema}.conversation
    SET newest = opened.newest, messages = opened.messages + added - trimmed, token = opened.token,
        writer = opened.writer, is_deleted = opened.is_deleted, expires_at = opened.expires_at,
        next_position = opened.next_position + CASE WHEN run IS NULL THEN 0 ELSE added END
    WHERE id = name;
    status := 'stored';
    IF added > 0 THEN
        COMMIT;
        PERFORM pg_notify({channel}, name || E'\n' || 'p' || opened.newest);
        IF run IS NOT NULL AND positions[1] = 0 THEN
            CALL {schema}.purge_1();
        END IF;
    END IF;
END
$body$;


-- Become the only writer of a conversation and read what a run needs to go on.
--
-- One row says what came of it: `part` is 'fenced' or 'claimed', with the run's next position. Behind
-- it come the run's own messages, oldest first, and those before its first, newest first.
CREATE FUNCTION {schema}.claim_1(name text, run text, run_token bigint, earlier_limit bigint)
RETURNS TABLE (
    part text, o_number bigint, o_run_id text, o_position bigint, o_role text, o_data text
)
LANGUAGE plpgsql AS $body$
DECLARE
    opened {schema}.conversation;
    next bigint;
    first bigint;
BEGIN
    opened := {schema}.open_1(name);
    IF run_token < opened.token THEN
        RETURN QUERY SELECT 'fenced', NULL::bigint, NULL, NULL::bigint, NULL, NULL;
        RETURN;
    END IF;
    -- After a clear there may be fewer than it had written; it goes on from what it is told here.
    next := {schema}.next_position_1(name, run);
    UPDATE {schema}.conversation
    SET token = run_token, writer = run, next_position = next, is_deleted = false,
        expires_at = CASE WHEN opened.is_deleted THEN NULL ELSE opened.expires_at END
    WHERE id = name;
    SELECT min(number) INTO first FROM {schema}.message
    WHERE conversation_id = name AND run_id = run;
    RETURN QUERY SELECT 'claimed', NULL::bigint, NULL, next, NULL, NULL;
    RETURN QUERY
        SELECT 'own', number, run_id, position, role, data FROM {schema}.message
        WHERE conversation_id = name AND run_id = run ORDER BY number;
    RETURN QUERY
        SELECT 'earlier', number, run_id, position, role, data FROM {schema}.message
        WHERE conversation_id = name AND number < coalesce(first, 9223372036854775807)
        ORDER BY number DESC LIMIT earlier_limit;
END
$body$;


-- Remove everything that a run wrote, and use its token up. status: 'fenced' | 'retracted'
CREATE PROCEDURE {schema}.retract_1(
    name text, run text, run_token bigint, INOUT status text, INOUT removed bigint
)
LANGUAGE plpgsql AS $body$
DECLARE
    opened {schema}.conversation;
BEGIN
    opened := {schema}.open_1(name);
    IF run_token < opened.token THEN
        status := 'fenced';
        RETURN;
    END IF;
    DELETE FROM {schema}.message WHERE conversation_id = name AND run_id = run;
    GET DIAGNOSTICS removed = ROW_COUNT;
    UPDATE {schema}.conversation
    SET messages = messages - removed, token = run_token, used_up = run_token, writer = run,
        next_position = 0
    WHERE id = name;
    status := 'retracted';
    IF removed > 0 THEN
        COMMIT;
        PERFORM pg_notify({channel}, name || E'\n' || 'retracted');
    END IF;
END
$body$;


-- Remove all messages. Token, writer and its position stay, so that a run that is writing goes on.
CREATE PROCEDURE {schema}.clear_1(name text, INOUT removed bigint)
LANGUAGE plpgsql AS $body$
DECLARE
    found_one {schema}.conversation;
BEGIN
    found_one := {schema}.find_1(name);
    removed := 0;
    IF found_one.id IS NOT NULL THEN
        DELETE FROM {schema}.message WHERE conversation_id = name;
        GET DIAGNOSTICS removed = ROW_COUNT;
        UPDATE {schema}.conversation SET messages = 0 WHERE id = name;
    END IF;
    COMMIT;
    PERFORM pg_notify({channel}, name || E'\n' || 'cleared');
END
$body$;


-- Remove one message; removed: 1 if it was there, else 0.
CREATE PROCEDURE {schema}.remove_1(name text, wanted bigint, INOUT removed bigint)
LANGUAGE plpgsql AS $body$
DECLARE
    found_one {schema}.conversation;
BEGIN
    found_one := {schema}.find_1(name);
    removed := 0;
    IF found_one.id IS NOT NULL THEN
        DELETE FROM {schema}.message WHERE conversation_id = name AND number = wanted;
        GET DIAGNOSTICS removed = ROW_COUNT;
    END IF;
    IF removed > 0 THEN
        UPDATE {schema}.conversation SET messages = messages - removed WHERE id = name;
        COMMIT;
        PERFORM pg_notify({channel}, name || E'\n' || 'removed');
    END IF;
END
$body$;


-- Forget a conversation. Its token stays for `fence_s`, used up, so that who wrote to it cannot go on.
CREATE PROCEDURE {schema}.delete_1(name text, fence_s float8, INOUT removed bigint)
LANGUAGE plpgsql AS $body$
DECLARE
    found_one {schema}.conversation;
BEGIN
    found_one := {schema}.find_1(name);
    removed := 0;
    IF found_one.id IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM {schema}.message WHERE conversation_id = name;
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF found_one.token > 0 THEN
        UPDATE {schema}.conversation
        SET newest = 0, messages = 0, used_up = token, writer = NULL, next_position = 0,
            is_deleted = true,
            expires_at = pg_catalog.clock_timestamp() + make_interval(secs => fence_s)
        WHERE id = name;
    ELSE
        DELETE FROM {schema}.conversation WHERE id = name;
    END IF;
    COMMIT;
    PERFORM pg_notify({channel}, name || E'\n' || 'deleted');
    CALL {schema}.purge_1();
END
$body$;


-- Forget a conversation after a while.
CREATE PROCEDURE {schema}.expire_1(name text, ttl_s float8)
LANGUAGE plpgsql AS $body$
DECLARE
    found_one {schema}.conversation;
BEGIN
    found_one := {schema}.find_1(name);
    IF found_one.id IS NOT NULL THEN
        UPDATE {schema}.conversation
        SET expires_at = pg_catalog.clock_timestamp() + make_interval(secs => ttl_s)
        WHERE id = name;
        COMMIT;
    END IF;
    CALL {schema}.purge_1();
END
$body$;

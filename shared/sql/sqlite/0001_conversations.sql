-- Conversations, and who may write to them. A conversation without messages keeps its row, so that
-- fencing tokens outlive a clear; one that was deleted keeps it until expires_at.
CREATE TABLE conversation (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    number INTEGER NOT NULL,           -- that of its newest message ever
    count INTEGER NOT NULL,            -- messages there are
    fencing_token INTEGER NOT NULL,    -- the greatest one seen
    retracted_token INTEGER NOT NULL,  -- the one used up by a retract or a delete
    writer TEXT,                       -- the run that writes
    next_position INTEGER NOT NULL,    -- where it goes on
    is_deleted INTEGER NOT NULL,       -- 1: nothing but the token is left
    expires_at REAL                    -- seconds of Unix time
);

CREATE INDEX conversation_by_deadline ON conversation (expires_at) WHERE expires_at IS NOT NULL;

-- Messages. What filters need stands beside the message itself.
CREATE TABLE message (
    conversation INTEGER NOT NULL REFERENCES conversation (key),
    number INTEGER NOT NULL,           -- the cursor; grows from message to message
    run_id TEXT,
    position INTEGER NOT NULL,
    role TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL                 -- JSON, see shared/message.py
);

CREATE UNIQUE INDEX message_by_number ON message (conversation, number);

CREATE INDEX message_by_run ON message (conversation, run_id, number) WHERE run_id IS NOT NULL;

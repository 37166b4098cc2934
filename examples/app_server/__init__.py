"""An app server: it accepts runs over HTTP and shows them live, and never executes one itself.

It needs the light client only, no LLM library, and keeps no state: any number of copies can stand
behind a load balancer, and a watcher may reconnect to another one.

Run it
    With the system of `make up` running, and AGENTS_REDIS_URL set as that prints it:

        .venv/bin/uvicorn examples.app_server.app:app --port 8000 --timeout-graceful-shutdown 3

    Then open http://localhost:8000/, or stay on the command line:

        curl -i localhost:8000/runs --json \
            '{"agent": "travel", "input": "To Rome for two", "conversation_id": "web:ada:travel"}'
        curl -N localhost:8000/runs/RUN_ID/events

Routes
    ====  ================================  ======================================================
    POST  /runs                             accept a run: 202, its id and its links; an
                                            `Idempotency-Key` header makes trying again safe
    GET   /runs/{id}                        status, times, outcome
    GET   /runs/{id}/events                 server-sent events: `message`, `delta` and `status`
                                            until the run ends; `Last-Event-ID` resumes
    POST  /runs/{id}/cancel                 stop it
    GET   /conversations/{id}/messages      messages, oldest first; `?after=CURSOR` for the rest
    ====  ================================  ======================================================

    Errors are JSON: their name and what to do next. 404: no such run or agent, 409: a conflict with
    another run, 413: too large, 422: a wrong value, 503: try again later.

What a real one adds
    It asks who is calling, and derives the conversation id from the answer. This one asks nobody,
    so it belongs on a machine of one's own only.
"""

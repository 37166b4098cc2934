# Two images from one file:
#
#   docker build -t celery-agents .                        the worker (the default)
#   docker build -t celery-agents-app --target app .       the example app server, client only
#
# A worker serves the modules it is pointed at. Put yours under /app, by a volume or in an image of
# your own (FROM celery-agents, COPY my_agents /app/my_agents), then: start my_agents

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY LICENSE README.md constraints.txt pyproject.toml ./
COPY agent_client agent_client
COPY agent_worker agent_worker
COPY shared shared
RUN pip wheel --no-deps --wheel-dir /wheels .

# Each image gets an environment of its own: the app server's has no LLM library in it.
FROM build AS build-worker
RUN python -m venv /venv \
    && /venv/bin/pip install --constraint constraints.txt "$(echo /wheels/*.whl)[worker,encryption,compression,postgres]"

FROM build AS build-app
RUN python -m venv /venv \
    && /venv/bin/pip install --constraint constraints.txt "$(echo /wheels/*.whl)[postgres]" fastapi uvicorn

FROM python:3.12-slim AS runtime
RUN groupadd --system --gid 10001 agents \
    && useradd --system --uid 10001 --gid agents --no-create-home --home-dir /app agents
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER agents

FROM runtime AS app
COPY --from=build-app /venv /venv
COPY examples examples
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000), 3).close()"]
CMD ["uvicorn", "examples.app_server.app:app", "--host", "0.0.0.0", "--port", "8000", \
     "--timeout-graceful-shutdown", "3"]

FROM runtime AS worker
COPY --from=build-worker /venv /venv
# SIGTERM reaches the worker itself (exec form, no shell between): it hands its runs over and exits.
ENTRYPOINT ["agent-worker"]
CMD ["--help"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 \
    CMD ["agent-worker", "ping", "--here"]

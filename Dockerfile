# One image, two commands: `tailrace serve` (the gateway, the default) and `tailrace worker`.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/tailrace
COPY requirements.txt ./
RUN /opt/tailrace/bin/pip install --require-hashes --no-deps --only-binary :all: --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY gateway gateway
COPY worker worker
RUN /opt/tailrace/bin/pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tailrace
COPY --from=build /opt/tailrace /opt/tailrace
ENV PATH=/opt/tailrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TAILRACE_HOST=0.0.0.0 \
    TAILRACE_PORT=8080
USER tailrace
# A tailrace.toml is mounted here.
WORKDIR /srv/tailrace
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["tailrace"]
CMD ["serve"]

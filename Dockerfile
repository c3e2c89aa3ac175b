# One image, two commands: `tailrace serve` (the gateway, the default) and `tailrace worker`.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements-build.txt requirements-image.txt ./
# Two environments: the tools that build the package stay in this stage, and so does pip.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --no-deps --only-binary :all: --requirement requirements-build.txt \
    && python -m venv --without-pip /opt/tailrace \
    && pip --python /opt/tailrace/bin/python install \
       --require-hashes --no-deps --only-binary :all: --requirement requirements-image.txt
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY gateway gateway
COPY worker worker
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/tailrace/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:3.11-slim
RUN python -m pip uninstall --yes pip setuptools wheel \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin tailrace
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
# Of the default command; compose.yaml has the worker's.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD \
    ["python", "-c", "import os; from urllib.request import urlopen; urlopen(f'http://127.0.0.1:{os.environ[\"TAILRACE_PORT\"]}/health/ready', timeout=3)"]
ENTRYPOINT ["tailrace"]
CMD ["serve"]

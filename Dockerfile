# Loraplex with vLLM. ACCEL=cpu (default) or ACCEL=cuda: docker build --build-arg ACCEL=cuda .
# The steps are scripts/image-*.sh, which tests/test_image.py runs without a container engine.
ARG PYTHON_VERSION=3.12.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG ACCEL=cpu
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /src
COPY scripts/find-python.sh scripts/install-requirements.sh scripts/image-install.sh scripts/
COPY requirements/ requirements/
RUN --mount=type=cache,target=/root/.cache scripts/image-install.sh requirements /opt/loraplex "$ACCEL"
COPY pyproject.toml README.md LICENSE ./
COPY loraplex/ loraplex/
COPY gateway/ gateway/
COPY adapters_registry/ adapters_registry/
COPY training/ training/
COPY loadtest/ loadtest/
RUN scripts/image-install.sh app /opt/loraplex

FROM python:${PYTHON_VERSION}-slim-bookworm
ARG ACCEL=cpu
COPY scripts/image-system.sh scripts/image-healthcheck.py /opt/image/
RUN /opt/image/image-system.sh "$ACCEL"
COPY --from=build /opt/loraplex /opt/loraplex

# HOME lies in the cache, so that every library's own cache does too and the root may be read-only.
# LOGNAME: libraries ask for the user's name, and a numeric user has none.
ENV PATH=/opt/loraplex/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    LOGNAME=loraplex \
    LORAPLEX_DATA_DIR=/data \
    LORAPLEX_CACHE_DIR=/cache/loraplex
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/cache"]
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
# /livez answers while the engine is still starting; readiness is /readyz.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "/opt/image/image-healthcheck.py", "http://127.0.0.1:8080/livez"]
ENTRYPOINT ["loraplex"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080", "--metrics-port", "9464"]

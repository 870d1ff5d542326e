# The collector. Build from a directory that holds `wheelhouse-collector/` (make wheelhouse WHEELHOUSE_FLAGS=--collector)
# and `deploy/`:
#   docker build -f deploy/images/collector.Dockerfile -t phasewatt-collector .
ARG BASE=debian:12.12-slim
# hadolint ignore=DL3006
FROM ${BASE} AS build
SHELL ["/bin/sh", "-euc"]
# The versions of Debian packages are those of the base's release, which its tag pins.
# hadolint ignore=DL3008
RUN if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then \
        apt-get update; \
        apt-get install --yes --no-install-recommends python3 python3-venv; \
        rm -rf /var/lib/apt/lists/*; \
    fi
COPY wheelhouse-collector /wheelhouse
RUN python3 -m venv /opt/phasewatt; \
    /opt/phasewatt/bin/python -m pip install --no-cache-dir --no-index --find-links /wheelhouse \
        --constraint /wheelhouse/constraints.txt "phasewatt[collector,postgres]"; \
    /opt/phasewatt/bin/python -m pip uninstall --yes --quiet setuptools pip

# hadolint ignore=DL3006
FROM ${BASE}
SHELL ["/bin/sh", "-euc"]
# hadolint ignore=DL3008
RUN if ! command -v python3 >/dev/null; then \
        apt-get update; \
        apt-get install --yes --no-install-recommends python3 ca-certificates; \
        rm -rf /var/lib/apt/lists/*; \
    fi; \
    groupadd --gid 10002 phasewatt; \
    useradd --uid 10002 --gid 10002 --no-create-home --home-dir /var/lib/phasewatt-collector \
        --shell /usr/sbin/nologin phasewatt; \
    install -d -o phasewatt -g phasewatt -m 0750 /var/lib/phasewatt-collector; \
    install -d -o phasewatt -g phasewatt -m 0700 /var/lib/phasewatt-broker
COPY --from=build /opt/phasewatt /opt/phasewatt
COPY deploy/images/collector_health.py /opt/phasewatt/health.py
ENV PATH=/opt/phasewatt/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 NO_COLOR=1 \
    XDG_STATE_HOME=/var/lib/phasewatt-collector MPLCONFIGDIR=/var/lib/phasewatt-collector/matplotlib
USER 10002:10002
VOLUME /var/lib/phasewatt-collector
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s --retries=3 \
    CMD ["python", "/opt/phasewatt/health.py"]
ENTRYPOINT ["phasewatt-collector"]
CMD ["serve", "--db", "sqlite:////var/lib/phasewatt-collector/collector.db"]

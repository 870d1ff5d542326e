# The agent. Build from a directory that holds `wheelhouse/` (make wheelhouse) and `deploy/`:
#   docker build -f deploy/images/agent.Dockerfile --build-arg BASE=IMAGE -t phasewatt-agent .
# BASE decides the platform; each must be Debian or Ubuntu with Python 3.10 to 3.13 or let apt-get bring it:
#   debian:12.12-slim (the default)      plain CPU
#   l4t-jetpack r36.4.0 of NVIDIA        JetPack 6
#   cuda 13.0 runtime, Ubuntu 24.04      JetPack 7 (SBSA), and x86-64 with driver 580 or later
# docs/install.md says how to name them, and with which options to run each.
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
COPY wheelhouse /wheelhouse
RUN python3 -m venv /opt/phasewatt; \
    /opt/phasewatt/bin/python -m pip install --no-cache-dir --no-index --find-links /wheelhouse \
        --constraint /wheelhouse/constraints.txt "phasewatt[nvml]"; \
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
    groupadd --gid 10001 phasewatt; \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/phasewatt-agent --shell /usr/sbin/nologin phasewatt; \
    install -d -o phasewatt -g phasewatt -m 0750 /var/lib/phasewatt-agent
COPY --from=build /opt/phasewatt /opt/phasewatt
COPY deploy/images/agent_health.py /opt/phasewatt/health.py
ENV PATH=/opt/phasewatt/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 NO_COLOR=1
USER 10001:10001
VOLUME /var/lib/phasewatt-agent
HEALTHCHECK --interval=60s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python", "/opt/phasewatt/health.py"]
ENTRYPOINT ["phasewatt-agent"]
CMD ["serve", "--state-dir", "/var/lib/phasewatt-agent"]

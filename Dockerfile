# simtrail in a container: any of its commands, as a user without rights, on a read-only file system.
# deploy/compose.yml runs a fleet of it. Build: docker build --tag simtrail .

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
# What runs is pinned with hashes, and comes as wheels: no compiler, and no code of a package's at build time.
COPY requirements requirements
RUN python -m venv /opt/simtrail \
    && /opt/simtrail/bin/python -m pip install --no-cache-dir --only-binary :all: --require-hashes --requirement requirements/run.txt \
    && python -m venv /opt/tools \
    && /opt/tools/bin/python -m pip install --no-cache-dir --only-binary :all: --require-hashes --requirement requirements/dev.txt
COPY pyproject.toml README.md LICENSE metadata.yml ./
COPY schema schema
COPY ingest ingest
COPY projections projections
COPY audit audit
RUN /opt/tools/bin/python -m build --wheel --no-isolation --outdir /tmp/wheel . \
    && /opt/simtrail/bin/python -m pip install --no-cache-dir --no-index --no-deps /tmp/wheel/*.whl \
    && /opt/simtrail/bin/python -m pip uninstall --yes pip \
    && /opt/simtrail/bin/simtrail --version

FROM python:3.13-slim-bookworm
# The number is fixed, so that a volume's owner is known outside.
RUN groupadd --system --gid 10001 simtrail \
    && useradd --system --uid 10001 --gid simtrail --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin simtrail \
    && install --directory --owner simtrail --group simtrail --mode 0700 /data
COPY --from=build /opt/simtrail /opt/simtrail
ENV PATH=/opt/simtrail/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SIMTRAIL_DATA=/data \
    SIMTRAIL_HOST=0.0.0.0 \
    SIMTRAIL_PUBLISH_HOST=0.0.0.0
USER 10001:10001
VOLUME /data
EXPOSE 8080 8001
# Of a receiver; deploy/compose.yml has those of the others.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=4)"]
ENTRYPOINT ["simtrail"]
CMD ["serve"]

# Every image of the project. `make images` prepares dist/image/<architecture>/ (wheels checked against the lock's hashes,
# the project's own wheel, the chart renderer) and builds the targets; `docker build` by hand works after that.
#
# The stages that run Python run on the building machine and only their files travel on, so that tenantry and simulator
# are built for another architecture without emulation. Dependencies are wheels; one stage has a compiler, for our own
# hot path.

# Debian bookworm with Python 3.11: the published image, or an import of the same packages where no registry answers.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
# The building machine's platform, for builders that do not know BUILDPLATFORM (Docker's classic one).
ARG NATIVE

FROM --platform=${NATIVE:-$BUILDPLATFORM} ${BASE} AS dependencies
ARG TARGETARCH
COPY requirements.lock dist/image/${TARGETARCH}/wheels/ /wheels/
# Debian keeps pip as a wheel for venv; the published image has it installed.
RUN set -eu; \
    for pip in /usr/share/python-wheels/pip-*.whl; do [ ! -e "$pip" ] || export PYTHONPATH="$pip"; done; \
    case "$TARGETARCH" in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac; \
    python3 -m pip install --no-index --find-links /wheels --require-hashes --no-deps --only-binary :all: \
        --platform "manylinux_2_28_$machine" --platform "manylinux2014_$machine" --no-cache-dir --root-user-action ignore \
        --target /opt/tenantry --requirement /wheels/requirements.lock

FROM --platform=${NATIVE:-$BUILDPLATFORM} ${BASE} AS package
ARG TARGETARCH
COPY dist/image/${TARGETARCH}/package/ /package/
RUN set -eu; \
    for pip in /usr/share/python-wheels/pip-*.whl; do [ ! -e "$pip" ] || export PYTHONPATH="$pip"; done; \
    python3 -m pip install --no-index --no-deps --no-cache-dir --root-user-action ignore --target /opt/package /package/*.whl

# The hot path as machine code: C that mypyc made of the same sources, beside them. Headers are those of Debian's Python
# of the same version, the target's own; they are unpacked and not installed, for they may be another architecture's.
FROM --platform=${NATIVE:-$BUILDPLATFORM} ${BASE} AS compiled
ARG TARGETARCH
RUN set -eu; \
    here=$(dpkg --print-architecture); \
    case "$TARGETARCH" in \
        "$here") compiler="gcc libc6-dev" ;; \
        arm64) compiler="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
        amd64) compiler="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
    esac; \
    [ "$TARGETARCH" = "$here" ] || dpkg --add-architecture "$TARGETARCH"; \
    apt-get update -qq; \
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $compiler >/dev/null; \
    version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
    mkdir /headers; cd /headers; \
    apt-get download -qq -o APT::Sandbox::User=root "libpython$version-dev:$TARGETARCH"; \
    dpkg-deb --extract ./*.deb .; mv usr/include/"python$version" python
COPY service/compile.sh dist/image/${TARGETARCH}/compiled/ /compiled/
RUN set -eu; \
    case "$TARGETARCH" in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; esac; \
    CC="$machine-linux-gnu-gcc" CFLAGS="-I/headers/python -I/headers/usr/include" sh /compiled/compile.sh /compiled /opt/compiled

FROM ${BASE} AS runtime
COPY --from=dependencies /opt/tenantry/ /opt/tenantry/
# Bytecode is there already and the root file system is read-only. USER and HOME are for libraries that ask, for the user
# id has no entry in /etc/passwd.
ENV PATH=/opt/tenantry/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/tenantry PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 USER=tenantry HOME=/tmp
USER 65532:65532

FROM runtime AS tenantry
ARG TARGETARCH
COPY --from=package /opt/package/ /opt/tenantry/
COPY --from=compiled /opt/compiled/ /opt/tenantry/
COPY dist/image/${TARGETARCH}/tenantry-render /usr/local/bin/tenantry-render
COPY charts/tenant/ /usr/share/tenantry/charts/tenant/
EXPOSE 8000 8081
ENTRYPOINT ["tenantry"]

# The upstream simulator: for tests, demo and benches.
FROM runtime AS simulator
COPY tests/simulator/tenantry_simulator/ /opt/tenantry/tenantry_simulator/
EXPOSE 8080
ENTRYPOINT ["python3", "-m", "tenantry_simulator"]

# Redis and PostgreSQL for development, from Debian's packages. Same user id, commands and variables as the published
# images, so that the chart runs with either.
FROM ${BASE} AS dev-redis
RUN set -eu; apt-get update -qq; \
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends redis-server >/dev/null; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/*
USER 999:999
EXPOSE 6379
ENTRYPOINT ["redis-server"]

FROM ${BASE} AS dev-postgres
# Left out: the JIT compiler (LLVM, 120 MB; PostgreSQL does without when it is not there) and the packaged cluster.
# initdb wants its user to have a name.
RUN set -eu; apt-get update -qq; \
    printf 'path-exclude=%s\n' '/usr/lib/*/libLLVM*' '/usr/lib/postgresql/*/lib/bitcode/*' '/usr/lib/postgresql/*/lib/llvmjit*' \
        > /etc/dpkg/dpkg.cfg.d/no-jit; \
    mkdir -p /etc/postgresql-common; echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; \
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends postgresql >/dev/null; \
    echo 'development:x:999:999::/tmp:/bin/sh' >> /etc/passwd; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/*
COPY kind/datastores/postgres.sh /usr/local/bin/dev-postgres
ENV PGDATA=/var/lib/postgresql/data/pgdata
USER 999:999
EXPOSE 5432
ENTRYPOINT ["dev-postgres"]

# What a plain `docker build .` makes.
FROM tenantry

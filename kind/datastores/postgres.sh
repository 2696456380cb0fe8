#!/bin/sh
# PostgreSQL for development: makes its data directory at the first start, then serves it. Understands the variables of
# the published image that the chart sets, so that either can be used.
set -eu
: "${POSTGRES_PASSWORD_FILE:?name the file that holds the password: this PostgreSQL does not run without one}"
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # A start that died half-way leaves a directory that initdb refuses.
    rm -rf "$PGDATA" "$PGDATA.new"
    initdb --pgdata "$PGDATA.new" --username "$user" --pwfile "$POSTGRES_PASSWORD_FILE" --encoding UTF8 \
        --locale C.UTF-8 --auth scram-sha-256 --no-sync >/dev/null
    echo 'host all all all scram-sha-256' >> "$PGDATA.new/pg_hba.conf"
    if [ "$database" != postgres ]; then
        # Single-user mode asks for no password and needs no socket.
        echo "CREATE DATABASE \"$database\"" | postgres --single -D "$PGDATA.new" postgres >/dev/null
    fi
    mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp

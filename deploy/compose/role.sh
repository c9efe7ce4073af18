#!/bin/sh
# Run once by the postgres image, when its volume is empty: the role that may append and read, with its password.
# `simtrail log init` gives it its rights.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --set password="$SIMTRAIL_DB_PASSWORD" <<'SQL'
CREATE ROLE simtrail LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
SQL

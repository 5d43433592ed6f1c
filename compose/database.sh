#!/bin/sh
# Run once by the image of PostgreSQL, when its volume is new: Foldwork's user owns its database and has no other rights.
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --set=password="$FOLDWORK_PASSWORD" --username="$POSTGRES_USER" <<'SQL'
CREATE ROLE foldwork LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE foldwork OWNER foldwork ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT ON DATABASE foldwork FROM PUBLIC;
SQL

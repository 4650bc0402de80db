# PostgreSQL in a container: /data is a volume, POSTGRES_PASSWORD is user postgres's, arguments name databases to make.
set -eu
export PGDATA=/data/postgres
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
  initdb --username postgres --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256 --no-sync > /tmp/initdb.log
  rm /tmp/password
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  for database in "$@"; do
    echo "CREATE DATABASE $database" | postgres --single -F postgres > /tmp/initdb.log
  done
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off

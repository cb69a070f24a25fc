#!/bin/sh
# Starts Redis with the two settings that compose passes on. The image's own entry point still drops root's rights.
set -eu
case "${APPENDONLY:-everysec}" in
  no) set -- --appendonly no ;;
  always | everysec) set -- --appendonly yes --appendfsync "${APPENDONLY:-everysec}" ;;
  *) echo "HEADRACE_APPENDONLY must be one of everysec, always, no, not '$APPENDONLY'." >&2; exit 2 ;;
esac
exec docker-entrypoint.sh redis-server /etc/headrace/redis.conf --aclfile /access/server/users.acl --maxmemory "${MAXMEMORY_MB:-1024}mb" "$@"

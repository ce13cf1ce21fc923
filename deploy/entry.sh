#!/bin/sh
# The entry point of the container. It also runs outside of one, with STEERSMAN_DATA:
#   entry.sh serve      portal, embedded server and watch; the first start creates an account and prints its login
#   entry.sh portal     only the portal, with PostgreSQL and Redis elsewhere
#   entry.sh watch      the scheduler, which starts queued runs on this host
#   entry.sh COMMAND…   anything else, such as: python manage.py train --run-id 1
set -eu
cd "$(dirname "$0")/.."
export STEERSMAN_DATA="${STEERSMAN_DATA:-/data}"
if ! mkdir -m 700 -p "$STEERSMAN_DATA" 2>/dev/null || ! [ -w "$STEERSMAN_DATA" ]; then
	echo "User $(id -u) cannot write to $STEERSMAN_DATA. Mount a volume there, or make the folder its own:" \
		"chown $(id -u) FOLDER" >&2
	exit 2
fi

prepare() {
	python manage.py migrate --verbosity 0
	python manage.py first_login
}

# Publish the recipes for the portals. Without PyTorch, the training hosts do this. A recipe that cannot be loaded must
# not keep the portal from starting: it is named and left out.
publish() {
	python -c 'import importlib.util as found, sys; sys.exit(found.find_spec("torch") is None)' || return 0
	python manage.py recipes --publish >/dev/null || true
}

role="${1:-serve}"
case "$role" in
serve)
	shift "$(($# ? 1 : 0))"
	prepare
	exec python manage.py serve "$@"
	;;
portal)
	shift
	prepare
	publish
	exec python manage.py serve_portal --bind "${STEERSMAN_BIND:-127.0.0.1}" "$@"
	;;
watch)
	shift
	publish
	exec python manage.py watch "$@"
	;;
*)
	exec "$@"
	;;
esac

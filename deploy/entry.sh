#!/bin/sh
# What a container starts. Also runs without one, on STEERSMAN_DATA:
#   entry.sh serve      portal, embedded server and watch; the first time it makes an account and prints its login
#   entry.sh portal     the portal alone, beside PostgreSQL and Redis
#   entry.sh watch      what starts queued runs on this host
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

# Tell the portals which recipes there are. Without PyTorch that is left to the hosts that train. A recipe of somebody
# that does not load must not keep everybody from the portal: it is named, and left out.
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

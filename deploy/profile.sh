# Read by every shell of the workbench: it gets the environment of the container, and starts beside manage.py.
if [ -r "${STEERSMAN_DATA:=/data}/lab/environment" ]; then
	. "$STEERSMAN_DATA/lab/environment"
fi
if [ "$PWD" = "$HOME" ]; then
	cd /app || true
fi

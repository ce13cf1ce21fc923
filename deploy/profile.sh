# Read by every shell of the workbench, which gets the environment of the container and starts in the folder of
# manage.py.
if [ -r "${STEERSMAN_DATA:=/data}/lab/environment" ]; then
	. "$STEERSMAN_DATA/lab/environment"
fi
if [ "$PWD" = "$HOME" ]; then
	cd /app || true
fi

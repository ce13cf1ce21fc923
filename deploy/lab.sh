#!/bin/bash
# The workbench: JupyterLab and SSH in addition to the processes of entry.sh. Allowed keys come from STEERSMAN_SSH_KEYS
# (lines of authorized_keys) or from $STEERSMAN_DATA/lab/authorized_keys. JupyterLab listens on the loopback:
#   ssh -p 2222 -L 8888:127.0.0.1:8888 steersman@HOST
set -euo pipefail
cd "$(dirname "$0")/.."
lab="${STEERSMAN_DATA:-/data}/lab"
mkdir -p "$lab/notebooks"
chmod 700 "$lab"
umask 077

[ -z "${STEERSMAN_SSH_KEYS:-}" ] || printf '%s\n' "$STEERSMAN_SSH_KEYS" >"$lab/authorized_keys"
[ -f "$lab/host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$lab/host_key"
if ! [ -s "$lab/authorized_keys" ]; then
	echo "Nobody can log in by SSH yet: give public keys in STEERSMAN_SSH_KEYS." >&2
fi
sed "s|@LAB@|$lab|g; s|@DATA@|${STEERSMAN_DATA:-/data}|g" deploy/sshd_config >"$lab/sshd_config"
# A shell started by SSH does not get the container's environment: deploy/profile.sh reads it from here.
(
	set -o posix
	unset HOME LOGNAME OLDPWD PWD SHLVL TERM USER STEERSMAN_SSH_KEYS
	export -p
) >"$lab/environment"

if ! [ -s "$lab/jupyter_token" ]; then
	python -c 'import secrets; print(secrets.token_urlsafe(32), end="")' >"$lab/jupyter_token"
	echo "JupyterLab's token lies in $lab/jupyter_token."
fi

/usr/sbin/sshd -D -e -f "$lab/sshd_config" &
# The token is passed in a file, because other processes can read arguments and environment.
JUPYTER_TOKEN_FILE="$lab/jupyter_token" jupyter lab --no-browser --ip=127.0.0.1 --port=8888 \
	--ServerApp.root_dir="$lab/notebooks" &
deploy/entry.sh "$@" &
# The container ends when one of the three processes ends, so that it can be restarted.
wait -n

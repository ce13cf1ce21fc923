# What shells of the workbench need: the environment of the container does not reach an SSH session.
export PATH="/opt/steersman/bin:$PATH" STEERSMAN_DATA=/data
cd /app

# What shells of the workbench need: the environment of the container does not reach an SSH session.
export PATH="/opt/coxswain/bin:$PATH" COXSWAIN_DATA=/data
cd /app

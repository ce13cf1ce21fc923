"""The environment of a training: interpreter, packages, devices, and the state of its source. Standard library only."""

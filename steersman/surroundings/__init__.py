"""What a training runs on: interpreter, packages, devices, and the state of its source. Standard library only."""

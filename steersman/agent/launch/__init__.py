"""Starting the processes of a training and following them, on one host or several.

Imports `steersman`, the other agent packages and psutil. Which run starts next: `trainer.scheduler`.
"""

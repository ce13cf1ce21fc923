"""Small replacements for large libraries: loops of the same shape that call the script's objects in the same order."""

"""Small libraries in place of large ones: loops of the same shape that call what a script hands in, in their order."""

"""The command `steersman`, as people start it, against servers that answer what portals answer."""

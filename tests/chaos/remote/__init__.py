"""`steersman run` on a host whose link and portal fail: the program, and the link between them."""

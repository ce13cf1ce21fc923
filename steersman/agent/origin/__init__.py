"""The checkpoint of another run at which a launch begins: chosen, fetched from the portal, and kept with the launch."""

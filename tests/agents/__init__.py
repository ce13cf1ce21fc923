"""`steersman agent`, its reports to the portal, and the runs that people request from it."""

"""The PostgreSQL database engine, whose pool replaces connections that an outage has made useless."""

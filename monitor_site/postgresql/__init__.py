"""The PostgreSQL database engine, whose pool leaves connections that an outage has made useless."""

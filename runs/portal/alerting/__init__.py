"""Pages of alerts: rules, destinations, mail accounts, and what a link in a message opens."""

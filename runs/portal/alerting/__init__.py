"""Pages of alerts: rules, destinations, mail accounts, and the pages behind links in messages."""

"""What the portal answers while the database is away or busy."""

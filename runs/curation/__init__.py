"""What people do to runs that are recorded, beside commanding them: tags and the like."""

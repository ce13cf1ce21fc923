"""Changes to recorded runs by people: tags, the archive, deletion and saved views."""

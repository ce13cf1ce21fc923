"""What alerts are called where people read them, in the language of the reader: pages, the admin and messages."""

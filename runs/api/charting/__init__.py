"""What a request for the points of charts may ask for."""

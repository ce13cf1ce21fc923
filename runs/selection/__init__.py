"""Search, order and columns of the list of runs and of the API, as an address names them."""

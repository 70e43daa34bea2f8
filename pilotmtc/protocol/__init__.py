"""What clients, agents and stewards say to the store's server: requests, replies and the frames that carry them."""

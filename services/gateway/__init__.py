"""The HTTP API: requests are checked, published with a confirm, and answered."""

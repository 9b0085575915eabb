"""A polite HTTP client: rate limits, retries, robots.txt, and bounds on what a response may cost."""

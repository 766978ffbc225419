"""The clients of the gateway: their keys, rate limits and Idempotency-Keys."""

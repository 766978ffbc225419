"""The SMTP client: connections to relays, pooled and limited."""

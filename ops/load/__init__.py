"""Load for a running stack: many events or mails, and whether all of them came to be, once."""

"""SMTP replies and the class that each of them means."""

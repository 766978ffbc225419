"""Mail that comes in by SMTP: from programs that hand it over, and reports about our own."""

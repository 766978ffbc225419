"""The submission door: mails that programs hand over by SMTP, after a login (RFC 6409)."""

"""The webhooks of mail providers: their signatures, and what they say of mails."""

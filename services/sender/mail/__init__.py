"""The mail as octets: MIME, header fields and DKIM signatures."""

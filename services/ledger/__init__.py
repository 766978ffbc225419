"""The ledger: the record of each mail, the sums over all mails, the suppressed addresses."""

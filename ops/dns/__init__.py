"""The DNS of a domain that sends: the records to publish, and whether they are published."""

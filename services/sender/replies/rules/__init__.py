"""What the words and codes of SMTP replies mean: rules as data, in the order of the files."""

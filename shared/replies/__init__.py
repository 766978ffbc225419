"""SMTP replies: their meaning, and their class by rules."""

"""Named faults of a whole stack under load: what was lost, what came twice, how soon it went on."""

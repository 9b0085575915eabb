"""How a site is asked: politely, within its rules and ours. Knows no archive."""

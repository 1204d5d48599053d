"""What a report, and asking files of their origin, cost a run; and what a page costs a browser."""

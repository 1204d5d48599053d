"""A page of verdicts for people: which images it shows, their pictures, and how they are drawn."""

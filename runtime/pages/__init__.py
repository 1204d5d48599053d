"""What pages for people are made of: templates, styles and scripts, joined into one file."""

"""What is said of an image: records, the files they go to, and going on with these."""

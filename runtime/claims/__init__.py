"""What a file says of itself: which way is up, who says to have made it. Never what it shows."""

"""What templates of events load."""

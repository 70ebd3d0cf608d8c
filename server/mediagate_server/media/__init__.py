"""Where finished media and uploads are kept, how they get there, and what they are."""

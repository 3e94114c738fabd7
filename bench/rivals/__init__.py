"""Other methods and other people's software on the same data."""

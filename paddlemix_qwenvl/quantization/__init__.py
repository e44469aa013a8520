"""A model's weights into fewer bits, as a folder that other tools read, too."""

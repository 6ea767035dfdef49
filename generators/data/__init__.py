"""The data of all tasks: drawn and real pictures, text, and pictures with captions. Most need no download."""

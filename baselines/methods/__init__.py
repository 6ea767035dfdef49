"""The methods of the board, one file each."""

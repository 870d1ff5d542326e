"""The program on the board: measures, keeps what it measured, and delivers it."""

"""Make what a gateway needs of a request out of its bytes, in whichever process: pure functions."""

"""The tests of Tailrace."""

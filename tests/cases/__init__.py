"""Answers and requests of real upstreams and clients, each as a test in every dialect."""

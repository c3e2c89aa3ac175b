"""The formats of upstreams: their answers are read into one form, and requests are written for them. Pure."""

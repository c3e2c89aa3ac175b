"""The rules of webhooks as values: signatures, event bodies, and the URLs and addresses that may be called. Pure."""

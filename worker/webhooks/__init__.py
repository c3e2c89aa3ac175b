"""The deliveries of webhooks: attempts with slots of their own, which no job waits for."""

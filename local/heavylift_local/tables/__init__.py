"""DynamoDB (and EventBridge) by moto's server, in a process of its own, kept on disk by a journal."""

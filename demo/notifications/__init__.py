"""Live notifications: a database row first, a Kafka record second, a WebSocket frame third.

The app knows nothing of the project around it. README.md beside this file says how another project
takes it in.
"""

"""An AMQP 0-9-1 broker for development and tests, in memory or with its durable queues in a file."""

from services.dev.broker.server import DevelopmentBroker as DevelopmentBroker

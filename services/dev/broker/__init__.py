"""An AMQP 0-9-1 broker for development and tests; in memory, so everything is lost when it stops."""

from services.dev.broker.server import DevelopmentBroker as DevelopmentBroker

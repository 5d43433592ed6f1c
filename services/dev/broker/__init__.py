"""An AMQP 0-9-1 broker for development and tests; everything in it is lost when it stops, so nothing may rely on it."""

from services.dev.broker.server import DevelopmentBroker as DevelopmentBroker

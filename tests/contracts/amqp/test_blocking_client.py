"""The same brokers seen by a client of another make, which blocks: what one client forgives another may not."""

from collections.abc import Callable, Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.eventually import PATIENCE

Fresh = Callable[[], str]


@pytest.fixture
def blocking(broker_url: str, fresh: Fresh) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def test_publishes_with_confirms_and_consumes(blocking: BlockingChannel, fresh: Fresh) -> None:
    queue = fresh()
    blocking.confirm_delivery()
    blocking.queue_declare(queue, exclusive=True)
    for number in range(20):
        blocking.basic_publish("", queue, b"%d" % number, pika.BasicProperties(delivery_mode=2), mandatory=True)
    blocking.basic_qos(prefetch_count=3)
    seen = []
    for method, _, body in blocking.consume(queue, inactivity_timeout=PATIENCE):
        assert method is not None
        blocking.basic_ack(method.delivery_tag)
        seen.append(int(body))
        if len(seen) == 20:
            break
    assert blocking.cancel() == 0
    assert seen == list(range(20))


def test_gets_unroutable_messages_back(blocking: BlockingChannel, fresh: Fresh) -> None:
    blocking.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError) as unroutable:
        blocking.basic_publish("amq.direct", fresh(), b"x", mandatory=True)
    (returned,) = unroutable.value.messages
    assert (returned.method.reply_code, returned.method.reply_text, returned.body) == (312, "NO_ROUTE", b"x")


def test_gets_in_batches_and_gives_back(blocking: BlockingChannel, fresh: Fresh) -> None:
    queue = fresh()
    blocking.confirm_delivery()
    blocking.queue_declare(queue, exclusive=True)
    for number in range(4):
        blocking.basic_publish("", queue, b"%d" % number)
    tags = [blocking.basic_get(queue)[0].delivery_tag for _ in range(4)]
    assert blocking.basic_get(queue) == (None, None, None)
    blocking.basic_ack(tags[1], multiple=True)
    blocking.basic_nack(0, multiple=True, requeue=True)
    left = [blocking.basic_get(queue, auto_ack=True) for _ in range(2)]
    assert [(method.redelivered, body) for method, _, body in left] == [(True, b"2"), (True, b"3")]


def test_names_may_hold_any_character(blocking: BlockingChannel, fresh: Fresh) -> None:
    odd = "+ /=!?<>(ü)"
    queue, exchange = f"{fresh()}{odd}", f"{fresh()}{odd}"
    blocking.confirm_delivery()
    blocking.exchange_declare(exchange, auto_delete=True)
    assert blocking.queue_declare(queue, exclusive=True).method.queue == queue
    blocking.queue_bind(queue, exchange, odd)
    blocking.basic_publish(exchange, odd, b"1", pika.BasicProperties(reply_to=queue), mandatory=True)
    method, properties, body = blocking.basic_get(queue, auto_ack=True)
    assert (method.exchange, method.routing_key, properties.reply_to, body) == (exchange, odd, queue, b"1")
    with pytest.raises(pika.exceptions.UnroutableError):
        blocking.basic_publish(exchange, "other", b"2", mandatory=True)
    consumed = blocking.consume(queue, auto_ack=True, inactivity_timeout=PATIENCE)
    blocking.basic_publish(exchange, odd, b"3")
    assert next(consumed)[2] == b"3"


def test_large_bodies_pass_in_frames(blocking: BlockingChannel, fresh: Fresh) -> None:
    queue, body = fresh(), bytes(1_000_000)
    blocking.confirm_delivery()
    blocking.queue_declare(queue, exclusive=True)
    blocking.basic_publish("", queue, body)
    assert blocking.basic_get(queue, auto_ack=True)[2] == body


def test_says_why_a_channel_ended(blocking: BlockingChannel, fresh: Fresh) -> None:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        blocking.queue_declare(fresh(), passive=True)
    assert closed.value.reply_code == 404
    assert blocking.connection.channel().is_open


def test_says_why_a_connection_ended(broker_url: str) -> None:
    wrong = pika.URLParameters(broker_url)
    wrong.credentials = pika.PlainCredentials("guest", "wrong")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(wrong)


def test_is_told_that_its_queue_is_gone(blocking: BlockingChannel, fresh: Fresh) -> None:
    queue, cancelled = fresh(), []
    blocking.queue_declare(queue)
    blocking.add_on_cancel_callback(cancelled.append)
    tag = blocking.basic_consume(queue, lambda *_: None)
    blocking.connection.channel().queue_delete(queue)
    blocking.connection.process_data_events(time_limit=0)
    for _ in range(100):
        if cancelled:
            break
        blocking.connection.process_data_events(time_limit=0.1)
    assert [frame.method.consumer_tag for frame in cancelled] == [tag]


def test_direct_replies_end_with_the_channel(blocking: BlockingChannel, fresh: Fresh) -> None:
    queue = fresh()
    blocking.queue_declare(queue, exclusive=True)
    asker = blocking.connection.channel()
    assert asker.queue_declare("amq.rabbitmq.reply-to", passive=True).method.consumer_count == 1
    asker.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)
    asker.basic_publish("", queue, b"?", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    asker.queue_declare(queue, passive=True)
    address = blocking.basic_get(queue, auto_ack=True)[1].reply_to
    assert blocking.queue_declare(address, passive=True).method.consumer_count == 1
    asker.close()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        blocking.queue_declare(address, passive=True)
    assert closed.value.reply_code == 404

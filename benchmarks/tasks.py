"""The same mail as a Celery task, as people write it; and who fills its queue.

The worker loads this module by `-A benchmarks.tasks`. Run as a module it reads a Queue as JSON
from standard input, fills it and writes how many tasks there are to standard output.
"""

import smtplib
import sys
from email.message import EmailMessage
from functools import cache

import orjson
from celery import Celery

from benchmarks import mail
from benchmarks.celery import Queue

TASK = "send_mail"

app = Celery("bench")
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


def send_mail(smtp_port: int, recipient: str, subject: str, text: str, html: str) -> None:
    """Compose a mail with the standard library and send it over the process's connection."""
    message = EmailMessage()
    message["From"] = mail.SENDER
    message["To"] = recipient
    message["Subject"] = subject
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    _connection(smtp_port).send_message(message)


send = app.task(name=TASK)(send_mail)


@cache
def _connection(smtp_port: int) -> smtplib.SMTP:
    """Connect once in a process: its first task does."""
    return smtplib.SMTP("127.0.0.1", smtp_port, local_hostname="[127.0.0.1]")


def fill(queue: Queue) -> int:
    """Publish all tasks of a queue and tell how many."""
    app.conf.broker_url = queue.amqp_url
    with app.producer_or_acquire() as producer:
        for number in range(queue.count):
            what = (queue.smtp_port, mail.recipient(number), mail.SUBJECT, mail.TEXT, mail.HTML)
            send.apply_async(what, producer=producer)
    return queue.count


if __name__ == "__main__":
    filled = fill(Queue(**orjson.loads(sys.stdin.buffer.read())))
    sys.stdout.write(str(filled))

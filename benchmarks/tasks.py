"""The same mail as a Celery task, as people write it. The worker loads this module by `-A`."""

import smtplib
from email.message import EmailMessage
from functools import cache

from celery import Celery

from benchmarks import mail

app = Celery("bench")
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@cache
def _connection(smtp_port: int) -> smtplib.SMTP:
    """Connect once in a process: its first task does."""
    return smtplib.SMTP("127.0.0.1", smtp_port, local_hostname="[127.0.0.1]")


def send_mail(smtp_port: int, recipient: str, subject: str, text: str, html: str) -> None:
    """Compose a mail with the standard library and send it over the process's connection."""
    message = EmailMessage()
    message["From"] = mail.SENDER
    message["To"] = recipient
    message["Subject"] = subject
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    _connection(smtp_port).send_message(message)


send = app.task(name="send_mail")(send_mail)


async def fill(amqp_url: str, smtp_port: int, count: int, length: int) -> None:
    """Publish `count` tasks that mail to an SMTP server on 127.0.0.1; `length` as in the plan."""
    texts = tuple(map(mail.repeated(length), (mail.TEXT, mail.HTML)))
    app.conf.broker_url = amqp_url
    with app.producer_or_acquire() as producer:
        for number in range(count):
            arguments = (smtp_port, mail.recipient(number), mail.SUBJECT, *texts)
            send.apply_async(arguments, producer=producer)

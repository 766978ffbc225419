"""What a user reads when the stack is up. Pure."""

from ops.stack.record import Record

_MAIL = '{"to": "you@inbox.example", "subject": "Hello", "text": "It works."}'
_CODE = '{"email": "you@inbox.example"}'


def announcement(record: Record, run_dir: str) -> str:
    """Tell where everything is, and three commands to try."""
    return f"""
Postrider is up.

  gateway    {record.gateway_url}
  mailbox    {record.mailbox_url}
  SMTP       {record.smtp_host}:{record.smtp_port}
  RabbitMQ   {record.management_url or "as given by AMQP_URL"}
  files      {run_dir}: stack.json tells all addresses and keys, logs/ has the logs

Send a mail, have a code sent, look at what arrived:

  {_curl(record, "messages", _MAIL)}

  {_curl(record, "otp", _CODE)}

  curl -s '{record.mailbox_url}/api/messages?to=you@inbox.example'

Ctrl-C ends all of it.
"""


def _curl(record: Record, resource: str, body: str) -> str:
    return (
        f"curl -s {record.gateway_url}/v1/{resource} \\\n"
        f"    -H 'Authorization: Bearer {record.client_key}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f"    -d '{body}'"
    )

"""The door for reports about mails that were sent: bounces and complaints."""

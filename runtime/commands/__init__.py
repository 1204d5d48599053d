"""The command lines, their options and their console. Nothing else imports them."""

"""Images in archives and tables, which are read and never unpacked."""

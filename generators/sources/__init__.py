"""Where roots come from that are not trained here."""

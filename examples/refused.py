"""Wants to reach the internet, which the default profile refuses by name."""

import socket

socket.create_connection(("192.0.2.1", 80))

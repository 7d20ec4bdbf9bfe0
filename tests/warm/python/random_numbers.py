import random
import secrets
import tempfile
import uuid

print(random.random(), secrets.token_hex(8), uuid.uuid4(), tempfile.mktemp())

import tempfile

print(tempfile.mktemp())

import sys

for stream in sys.stdin, sys.stdout, sys.stderr:
    print(stream.name, stream.mode, stream.encoding, stream.errors, stream.line_buffering, stream.isatty(),
          stream.fileno(), stream.write_through, stream.newlines, stream.closed)
    print(stream.buffer.raw.mode, stream.buffer.raw.closefd, stream.seekable())
print(sys.__stdin__ is sys.stdin, sys.getfilesystemencoding(), sys.getdefaultencoding())
